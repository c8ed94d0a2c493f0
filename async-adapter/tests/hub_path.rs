//! A hub at a path, whose members sleep on futexes: a helper thread waits for each transport. In a process of its own, as
//! other tests count such threads.
//!
//! Seen to fail: without telling the helper that there is something to wait for, everybody waits for ever.

mod common;

use common::{On, TIGHT_HUB, assert_hub_is_empty};
use futures::future;
use rapace_shm::{Heard, HubHost, HubPeer, MsgDescHot, Spin, Waits};
use rapace_shm_async::HubHostTransport;

async fn next_message(host: &HubHostTransport) -> u64 {
    loop {
        match host.recv_from_any().await.unwrap() {
            (_, Heard::Joined) => {}
            (_, Heard::Message(message)) => return message.descriptor().msg_id,
            (id, heard) => panic!("{id:?}: {heard:?}"),
        }
    }
}

#[test]
fn a_hub_at_a_path_works_as_well() {
    let path = std::env::temp_dir().join(format!("rapace-shm-hub-path-{}", std::process::id()));
    for on in [On::AsyncIo, On::TokioMultiThread] {
        on.start().block_on(async {
            let host = on.options().spin(Spin::none()).host(HubHost::create_at(&path, TIGHT_HUB).unwrap()).unwrap();
            let id = host.add_peer(Waits::Together).unwrap();
            let plugin = on.options().spin(Spin::none()).over(HubPeer::open_at(&path, id).unwrap()).unwrap();
            let echo = async {
                while let Ok(message) = plugin.recv().await {
                    plugin.send(message.descriptor(), message.payload()).await.unwrap();
                }
            };
            let talk = async {
                for message in 0..200 {
                    host.send_to_peer(id, &MsgDescHot::data(message), &[7; 99]).await.unwrap();
                    assert_eq!(next_message(&host).await, message);
                }
                host.dismiss(id).unwrap();
            };
            future::join(echo, talk).await;
            drop(plugin);
            host.with_host(assert_hub_is_empty);
        });
    }
}
