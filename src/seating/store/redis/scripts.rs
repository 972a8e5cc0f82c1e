//! The Lua scripts, each with the shared parts that it needs in front.

use std::sync::LazyLock;

use crate::platform::redis::Script;

const SHARED: &str = include_str!("shared.lua");
const COMPLETED: &str = include_str!("completed.lua");
const REBUILD_GUARD: &str = include_str!("rebuild_guard.lua");

/// One script for each step of the store.
pub(super) struct Scripts {
    pub(super) hold: Script,
    pub(super) find_completed: Script,
    pub(super) find: Script,
    pub(super) holds_of: Script,
    pub(super) swap: Script,
    pub(super) extend: Script,
    pub(super) release: Script,
    pub(super) begin_checkout: Script,
    pub(super) return_to_hold: Script,
    pub(super) book: Script,
    pub(super) free: Script,
    pub(super) restore: Script,
    pub(super) set_blocked: Script,
    pub(super) expire: Script,
    pub(super) load: Script,
    pub(super) accept_migration: Script,
    pub(super) rebuild_begin: Script,
    pub(super) rebuild_restore: Script,
    pub(super) rebuild_end: Script,
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| {
    let shared = |name, source: &str| Script::new(name, &[SHARED, source].concat());
    Scripts {
        // The hot path goes without the shared part: Lua would create all its functions at each run.
        hold: Script::new("hold", &[COMPLETED, include_str!("hold.lua")].concat()),
        find_completed: Script::new(
            "find_completed",
            &[SHARED, COMPLETED, include_str!("find_completed.lua")].concat(),
        ),
        find: shared("find", include_str!("find.lua")),
        holds_of: shared("holds_of", include_str!("holds_of.lua")),
        swap: shared("swap", include_str!("swap.lua")),
        extend: shared("extend", include_str!("extend.lua")),
        release: shared("release", include_str!("release.lua")),
        begin_checkout: shared("begin_checkout", include_str!("begin_checkout.lua")),
        return_to_hold: shared("return_to_hold", include_str!("return_to_hold.lua")),
        book: shared("book", include_str!("book.lua")),
        free: shared("free", include_str!("free.lua")),
        restore: shared("restore", include_str!("restore.lua")),
        set_blocked: shared("set_blocked", include_str!("set_blocked.lua")),
        expire: shared("expire", include_str!("expire.lua")),
        load: Script::new("load", include_str!("load.lua")),
        accept_migration: Script::new("accept_migration", include_str!("accept_migration.lua")),
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
