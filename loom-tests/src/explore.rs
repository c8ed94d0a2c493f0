//! Running a model: how far loom goes, and how a mutant's death is told from a mistake in the test.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use loom::model::Builder;

/// Preemptions per execution, unless the environment says otherwise.
const BOUND: usize = 2;

/// Steps per execution. The longest model takes a few hundred; one that takes more than this spins.
const MAX_BRANCHES: usize = 20_000;

/// How far to go: what the variable says, or what loom's own variable says, or `usual`.
fn builder(variable: &str, usual: usize) -> Builder {
    let asked = std::env::var(variable).ok();
    let asked = asked.map(|bound| bound.parse().unwrap_or_else(|_| panic!("{variable} is a number of preemptions")));
    bounded(asked.or(Builder::new().preemption_bound).unwrap_or(usual))
}

fn bounded(preemptions: usize) -> Builder {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = MAX_BRANCHES;
    builder
}

fn explore_within(builder: Builder, model: impl Fn() + Send + Sync + 'static, executions: &Arc<AtomicUsize>) {
    let executions = executions.clone();
    builder.check(move || {
        executions.fetch_add(1, Ordering::Relaxed);
        model();
    });
}

/// Runs a model in every execution within the bound, and prints how many there were (`--nocapture` shows it).
///
/// The bound on preemptions is 2, or what `RAPACE_SHM_LOOM_BOUND` (or loom's own `LOOM_MAX_PREEMPTIONS`) says.
pub fn check(model: impl Fn() + Send + Sync + 'static) {
    let (executions, start) = (Arc::default(), Instant::now());
    explore_within(builder("RAPACE_SHM_LOOM_BOUND", BOUND), model, &executions);
    report("holds", executions.load(Ordering::Relaxed), start);
}

/// As [`check`], with one preemption, or what `RAPACE_SHM_LOOM_LONG_BOUND` says: for models that run long, and many times.
pub fn check_long(model: impl Fn() + Send + Sync + 'static) {
    let (executions, start) = (Arc::default(), Instant::now());
    explore_within(builder("RAPACE_SHM_LOOM_LONG_BOUND", BOUND - 1), model, &executions);
    report("holds", executions.load(Ordering::Relaxed), start);
}

/// Runs a model of a death with [`check_long`] once for every access of whoever dies: it is told the number of the access,
/// from 1 on, and says whether that one came before the end. Returns how many runs there were.
pub fn check_at_every_access(model: impl Fn(u32) -> bool + Copy + Send + Sync + 'static) -> u32 {
    let dies_at = |access| {
        let died = Arc::new(AtomicBool::new(false));
        let in_any = died.clone();
        check_long(move || {
            in_any.fetch_or(model(access), Ordering::Relaxed);
        });
        died.load(Ordering::Relaxed)
    };
    let mut access = 1;
    while dies_at(access) {
        access += 1;
    }
    access
}

/// Runs a mutant's model, which must fail with a message that contains `expected`, with two preemptions at the most,
/// whatever the variable says: every mutant fails with those, and with more of them it only takes longer to find out.
///
/// # Panics
/// If the mutant survives, or fails in another way.
pub fn killed(expected: &str, model: impl Fn() + Send + Sync + 'static) {
    let (executions, start) = (Arc::default(), Instant::now());
    let usual = bounded(BOUND);
    let failure = silently(|| panic::catch_unwind(AssertUnwindSafe(|| explore_within(usual, model, &executions))));
    let executions = executions.load(Ordering::Relaxed);
    let Err(failure) = failure else { panic!("the mutant survived all {executions} executions") };
    let message = match (failure.downcast_ref::<String>(), failure.downcast_ref::<&str>()) {
        (Some(message), _) => message,
        (_, Some(message)) => *message,
        _ => "a panic without a message",
    };
    assert!(message.contains(expected), "the mutant did not fail with {expected:?} but with: {message}");
    let first_line = message.lines().next().unwrap_or_default();
    report(&format!("killed ({first_line})"), executions, start);
}

fn report(outcome: &str, executions: usize, start: Instant) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("model");
    println!("{name}: {outcome}, {executions} executions, {:.2} s", start.elapsed().as_secs_f64());
}

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// Runs something whose panics are expected, without their messages; those of other tests are printed as ever.
fn silently<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                usual(info);
            }
        }));
    });
    SILENT.set(true);
    let done = work();
    SILENT.set(false);
    done
}
