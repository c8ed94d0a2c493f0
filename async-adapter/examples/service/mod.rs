//! A service as rapace's users define it. It knows nothing of transports.

/// Something to do with large blobs.
#[allow(async_fn_in_trait)]
#[rapace::service]
pub trait Blobs {
    /// How many bytes there are, and their sum.
    async fn sum(&self, blob: Vec<u8>) -> (u64, u64);
    /// The bytes, the other way round.
    async fn reverse(&self, blob: Vec<u8>) -> Vec<u8>;
}

/// The service.
pub struct Here;

impl Blobs for Here {
    async fn sum(&self, blob: Vec<u8>) -> (u64, u64) {
        (blob.len() as u64, blob.iter().map(|byte| u64::from(*byte)).sum())
    }

    async fn reverse(&self, mut blob: Vec<u8>) -> Vec<u8> {
        blob.reverse();
        blob
    }
}
