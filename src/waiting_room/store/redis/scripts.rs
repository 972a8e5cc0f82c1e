//! All scripts, each with what they share before it.

use std::sync::LazyLock;

use crate::platform::redis::Script;

pub(super) struct Scripts {
    pub(super) number: Script,
    pub(super) adopt: Script,
    pub(super) give_up: Script,
    pub(super) reserve: Script,
    pub(super) give_back: Script,
    pub(super) grant: Script,
    pub(super) finish: Script,
    pub(super) reopen: Script,
    pub(super) apply: Script,
    pub(super) situation: Script,
    pub(super) board: Script,
    pub(super) present: Script,
    pub(super) rebuild_begin: Script,
    pub(super) rebuild_wipe: Script,
    pub(super) rebuild_fill: Script,
    pub(super) rebuild_end: Script,
}

macro_rules! script {
    ($how:ident, $name:literal) => {
        Script::$how(
            $name,
            concat!(include_str!("prelude.lua"), include_str!(concat!($name, ".lua"))),
        )
    };
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    number: Script::new("number", include_str!("number.lua")),
    adopt: Script::new("adopt", include_str!("adopt.lua")),
    give_up: Script::new("give_up", include_str!("give_up.lua")),
    reserve: script!(new, "reserve"),
    give_back: script!(new, "give_back"),
    grant: script!(new, "grant"),
    finish: script!(new, "finish"),
    reopen: script!(new, "reopen"),
    apply: script!(new, "apply"),
    situation: script!(new, "situation"),
    board: script!(new, "board"),
    present: script!(new, "present"),
    rebuild_begin: script!(unguarded, "rebuild_begin"),
    rebuild_wipe: script!(unguarded, "rebuild_wipe"),
    rebuild_fill: script!(unguarded, "rebuild_fill"),
    rebuild_end: script!(unguarded, "rebuild_end"),
});
