//! The examples, run: they are what shows that a service does not change with its transport, and what a hub is for.
//!
//! Seen to fail: a transport that drops the descriptor's flags ends no call.

#![cfg(feature = "rapace")]
#![allow(clippy::duplicate_mod)] // both bring the service along

#[allow(dead_code)] // its own main
#[path = "../examples/across_machines.rs"]
mod across_machines;
#[allow(dead_code)] // its own main
#[path = "../examples/hub.rs"]
mod hub;
#[allow(dead_code)] // its own main
#[path = "../examples/rapace_service.rs"]
mod rapace_service;

use std::process::{Command, Stdio};

use rapace_shm::ShmSession;

const VARIABLE: &str = "RAPACE_SHM_TEST_EXAMPLE";

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_service_is_called_in_another_process() {
    current_thread().block_on(rapace_service::call(&mut second("server"))).unwrap();
}

#[test]
fn a_host_asks_three_plugins() {
    current_thread().block_on(hub::host(|| second("plugin"))).unwrap();
}

/// The other process of an example; does nothing when it is run as a test.
#[test]
fn second_process() {
    match std::env::var(VARIABLE).as_deref() {
        Ok("server") => current_thread().block_on(rapace_service::serve(ShmSession::inherited().unwrap())).unwrap(),
        Ok(_) => current_thread().block_on(hub::plugin()).unwrap(),
        Err(_) => {}
    }
}

fn second(what: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "second_process"]).env(VARIABLE, what).stdout(Stdio::null());
    command
}

#[test]
fn a_service_is_called_on_another_machine() {
    current_thread().block_on(across_machines::run()).unwrap();
}
