//! The examples of feature `rapace`, run: they are what shows that a service does not change with its transport.
//!
//! Seen to fail: a transport that drops the descriptor's flags ends no call.

#![cfg(feature = "rapace")]
#![allow(clippy::duplicate_mod)] // both bring the service along

#[allow(dead_code)] // its own main
#[path = "../examples/across_machines.rs"]
mod across_machines;
#[allow(dead_code)] // its own main
#[path = "../examples/rapace_service.rs"]
mod rapace_service;

use std::process::{Command, Stdio};

use rapace_shm::ShmSession;

const VARIABLE: &str = "RAPACE_SHM_TEST_SERVER";

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_service_is_called_in_another_process() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "second_process"]).env(VARIABLE, "1").stdout(Stdio::null());
    current_thread().block_on(rapace_service::call(&mut command)).unwrap();
}

/// The server of `a_service_is_called_in_another_process`; does nothing when it is run as a test.
#[test]
fn second_process() {
    if std::env::var_os(VARIABLE).is_some() {
        current_thread().block_on(rapace_service::serve(ShmSession::inherited().unwrap())).unwrap();
    }
}

#[test]
fn a_service_is_called_on_another_machine() {
    current_thread().block_on(across_machines::run()).unwrap();
}
