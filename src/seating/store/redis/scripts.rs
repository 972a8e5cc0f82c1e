//! The scripts, each with what stands before it.

use std::sync::LazyLock;

use crate::platform::redis::Script;

const SHARED: &str = include_str!("shared.lua");
const OPERATIONS: &str = include_str!("operations.lua");
const REBUILD_GUARD: &str = include_str!("rebuild_guard.lua");

pub(super) struct Scripts {
    pub(super) hold: Script,
    pub(super) recall: Script,
    pub(super) find: Script,
    pub(super) swap: Script,
    pub(super) extend: Script,
    pub(super) release: Script,
    pub(super) begin_checkout: Script,
    pub(super) return_to_hold: Script,
    pub(super) book: Script,
    pub(super) free: Script,
    pub(super) restore: Script,
    pub(super) block: Script,
    pub(super) sweep: Script,
    pub(super) load: Script,
    pub(super) settle: Script,
    pub(super) rebuild_begin: Script,
    pub(super) rebuild_restore: Script,
    pub(super) rebuild_end: Script,
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| {
    let shared = |name, source: &str| Script::new(name, &[SHARED, source].concat());
    Scripts {
        // The one that a herd runs stands alone: what it does not need is not made.
        hold: Script::new("hold", &[OPERATIONS, include_str!("hold.lua")].concat()),
        recall: Script::new(
            "recall",
            &[SHARED, OPERATIONS, include_str!("recall.lua")].concat(),
        ),
        find: shared("find", include_str!("find.lua")),
        swap: shared("swap", include_str!("swap.lua")),
        extend: shared("extend", include_str!("extend.lua")),
        release: shared("release", include_str!("release.lua")),
        begin_checkout: shared("begin_checkout", include_str!("begin_checkout.lua")),
        return_to_hold: shared("return_to_hold", include_str!("return_to_hold.lua")),
        book: shared("book", include_str!("book.lua")),
        free: shared("free", include_str!("free.lua")),
        restore: shared("restore", include_str!("restore.lua")),
        block: shared("block", include_str!("block.lua")),
        sweep: shared("sweep", include_str!("sweep.lua")),
        load: Script::new("load", include_str!("load.lua")),
        settle: Script::new("settle", include_str!("settle.lua")),
        rebuild_begin: Script::unguarded("rebuild_begin", include_str!("rebuild_begin.lua")),
        rebuild_restore: Script::unguarded(
            "rebuild_restore",
            &[REBUILD_GUARD, SHARED, include_str!("restore.lua")].concat(),
        ),
        rebuild_end: Script::unguarded(
            "rebuild_end",
            &[REBUILD_GUARD, include_str!("rebuild_end.lua")].concat(),
        ),
    }
});
