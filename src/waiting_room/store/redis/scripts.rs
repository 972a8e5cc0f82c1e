//! All scripts, each with the names of its keys and arguments.
//!
//! A script names its keys and arguments instead of counting them: a generated first line binds each name, so
//! that program and script share one list ([`ScriptArgs::NAMES`] and the key lists below). A key `state` is
//! bound as `state_key`; `FIRST_ITEM` is the index in `ARGV` of what follows the named arguments.

use std::sync::LazyLock;

use crate::platform::redis::{Call, Script};

/// The named arguments of a script, in the order in which they are sent.
pub(super) trait ScriptArgs {
    /// Their names, as the script reads them.
    const NAMES: &'static [&'static str];

    /// Adds them to a call, before any list of items.
    fn append_to(self, call: Call) -> Call;
}

/// Declares the arguments of a script once, for both sides.
macro_rules! script_args {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        pub(super) struct $name {
            $($(#[$field_meta])* pub(super) $field: $type,)*
        }

        impl ScriptArgs for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];

            fn append_to(self, call: Call) -> Call {
                call$(.arg(&self.$field))*
            }
        }
    };
}

/// A visit's id as it is stored.
pub(super) type VisitBytes = uuid::Bytes;

script_args! {
    /// Arguments of `assign_numbers.lua`; then a field per customer.
    AssignNumbers { max_number: u32, people_max: u32, unused: u32, anonymous: u32 }
}
script_args! {
    /// Arguments of `abandon_number.lua`.
    AbandonNumber { field: Vec<u8>, number: u32 }
}
script_args! {
    /// `reinstate_numbers.lua` has items only.
    ReinstateNumbers {}
}
script_args! {
    /// Arguments of `reserve_slot.lua`.
    ReserveSlot {
        now_ms: i64,
        number: u32,
        visit: VisitBytes,
        lane: &'static str,
        expected: usize,
        pass_ttl_ms: i64,
        reservation_ttl_ms: i64,
        claim_ttl_ms: i64,
        claimants_max: usize,
        overloaded: u8,
        retry_min_ms: i64,
        retry_max_ms: i64,
        retry_far_max_ms: i64,
        speedup_max: u32,
    }
}
script_args! {
    /// Arguments of `release_slot.lua`.
    ReleaseSlot { now_ms: i64, visit: VisitBytes }
}
script_args! {
    /// Arguments of `grant_pass.lua`.
    GrantPass { now_ms: i64, visit: VisitBytes, pass_ttl_ms: i64, visit_max_ms: i64, slot_grace_ms: i64 }
}
script_args! {
    /// Arguments of `end_visits.lua`; then the named visits.
    EndVisits { now_ms: i64, retry_ms: i64, limit: usize }
}
script_args! {
    /// Arguments of `reopen_visits.lua`; then the visits.
    ReopenVisits { slot_grace_ms: i64 }
}
script_args! {
    /// Arguments of `apply_effects.lua`; then the effects.
    ApplyEffects { now_ms: i64, after_seq: u64, last_seq: u64, pass_ttl_ms: i64, slot_grace_ms: i64 }
}
script_args! {
    /// Arguments of `sync_state.lua`; then the healths, then the extended visits.
    SyncState {
        now_ms: i64,
        claim_ttl_ms: i64,
        slot_grace_ms: i64,
        report_ttl_ms: i64,
        node: String,
        applied_seq: u64,
        passes_checked_elsewhere: u8,
        caller_lease_ms: i64,
        zones: String,
        healths: usize,
    }
}
script_args! {
    /// Arguments of `count_behind.lua`.
    CountBehind { node: String, seq: u64 }
}
script_args! {
    /// Arguments of `share_status.lua`.
    ShareStatus { now_ms: i64, seen_version: u64, new_version: u64, json: Vec<u8> }
}
script_args! {
    /// Arguments of `share_heartbeats.lua`; then the heartbeats.
    ShareHeartbeats { now_ms: i64, since_ms: i64 }
}
script_args! {
    /// Arguments of `rebuild_begin.lua`, `rebuild_clear.lua` and `rebuild_subjects.lua`.
    RebuildStep { epoch: u64, claim_ttl_ms: i64 }
}
script_args! {
    /// Arguments of `rebuild_finish.lua`; then the settings, then the visits.
    RebuildFinish { epoch: u64, now_ms: i64, pass_ttl_ms: i64, slot_grace_ms: i64, settings: usize }
}

/// A script and the names of the keys that every call of it has.
pub(super) struct NamedScript {
    pub(super) script: Script,
    pub(super) keys: &'static [&'static str],
}

/// The claimants' keys: both lanes, and what is known of each claimant.
const CLAIM_KEYS: [&str; 6] = [
    "called",
    "called_silent_since",
    "late",
    "late_silent_since",
    "called_not_overtaken",
    "late_not_overtaken",
];
/// All keys that a rebuild starts anew, beside the subjects' buckets.
pub(super) const REBUILT_KEYS: [&str; 12] = [
    "state",
    "visits",
    "visit_by_number",
    "visit_deadlines",
    "ended_visits",
    "caller",
    CLAIM_KEYS[0],
    CLAIM_KEYS[1],
    CLAIM_KEYS[2],
    CLAIM_KEYS[3],
    CLAIM_KEYS[4],
    CLAIM_KEYS[5],
];
const VISIT_KEYS: &[&str] = &["visits", "visit_deadlines"];
const SLOT_KEYS: &[&str] = &["state", "visits", "visit_by_number", "visit_deadlines"];
const RESERVE_KEYS: &[&str] = &[
    SLOT_KEYS[0],
    SLOT_KEYS[1],
    SLOT_KEYS[2],
    SLOT_KEYS[3],
    CLAIM_KEYS[0],
    CLAIM_KEYS[1],
    CLAIM_KEYS[2],
    CLAIM_KEYS[3],
    CLAIM_KEYS[4],
    CLAIM_KEYS[5],
];
const APPLY_KEYS: &[&str] = &[
    SLOT_KEYS[0],
    SLOT_KEYS[1],
    SLOT_KEYS[2],
    SLOT_KEYS[3],
    CLAIM_KEYS[0],
    CLAIM_KEYS[1],
    CLAIM_KEYS[2],
    CLAIM_KEYS[3],
    "ended_visits",
];
const SYNC_KEYS: &[&str] = &[
    "state",
    "visits",
    "visit_deadlines",
    CLAIM_KEYS[0],
    CLAIM_KEYS[1],
    CLAIM_KEYS[2],
    CLAIM_KEYS[3],
    "ended_visits",
    "node_applied",
    "node_seen_at",
    "caller",
    "stock",
];
const FINISH_KEYS: &[&str] = &[
    "rebuilding",
    "ready",
    "state",
    "visits",
    "visit_by_number",
    "visit_deadlines",
];

/// The scripts of the Redis store.
pub(super) struct Scripts {
    pub(super) assign_numbers: NamedScript,
    pub(super) reinstate_numbers: NamedScript,
    pub(super) abandon_number: NamedScript,
    pub(super) reserve_slot: NamedScript,
    pub(super) release_slot: NamedScript,
    pub(super) grant_pass: NamedScript,
    pub(super) end_visits: NamedScript,
    pub(super) reopen_visits: NamedScript,
    pub(super) apply_effects: NamedScript,
    pub(super) sync_state: NamedScript,
    pub(super) count_behind: NamedScript,
    pub(super) share_status: NamedScript,
    pub(super) share_heartbeats: NamedScript,
    pub(super) rebuild_begin: NamedScript,
    pub(super) rebuild_clear: NamedScript,
    pub(super) rebuild_subjects: NamedScript,
    pub(super) rebuild_finish: NamedScript,
}

/// `$guard` is how the script is guarded (see [`Script`]); `with_prelude` puts the shared functions before
/// it.
macro_rules! script {
    ($guard:ident, plain, $name:literal, $args:ty, $keys:expr) => {
        script!($guard, include_str!(concat!($name, ".lua")), $name, $args, $keys)
    };
    ($guard:ident, with_prelude, $name:literal, $args:ty, $keys:expr) => {
        script!(
            $guard,
            concat!(include_str!("prelude.lua"), include_str!(concat!($name, ".lua"))),
            $name,
            $args,
            $keys
        )
    };
    ($guard:ident, $source:expr, $name:literal, $args:ty, $keys:expr) => {
        NamedScript {
            script: Script::$guard($name, &format!("{}{}", bindings($keys, <$args>::NAMES), $source)),
            keys: $keys,
        }
    };
}

/// The line that binds the names of keys and arguments.
fn bindings(keys: &[&str], args: &[&str]) -> String {
    let unpacked = |names: &str, from: &str, count: usize| match count {
        0 => String::new(),
        _ => format!("local {names} = unpack({from}, 1, {count}) "),
    };
    let key_names: Vec<String> = keys.iter().map(|key| format!("{key}_key")).collect();
    let keys = unpacked(&key_names.join(", "), "KEYS", keys.len());
    let first_item = args.len() + 1;
    let args = unpacked(&args.join(", "), "ARGV", args.len());
    format!("{keys}{args}local FIRST_ITEM = {first_item} ")
}

/// Loaded into a server when it is first used there.
pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    assign_numbers: script!(new, plain, "assign_numbers", AssignNumbers, &["state"]),
    reinstate_numbers: script!(new, plain, "reinstate_numbers", ReinstateNumbers, &[]),
    abandon_number: script!(new, plain, "abandon_number", AbandonNumber, &[]),
    reserve_slot: script!(new, with_prelude, "reserve_slot", ReserveSlot, RESERVE_KEYS),
    release_slot: script!(new, with_prelude, "release_slot", ReleaseSlot, SLOT_KEYS),
    grant_pass: script!(new, with_prelude, "grant_pass", GrantPass, VISIT_KEYS),
    end_visits: script!(new, with_prelude, "end_visits", EndVisits, VISIT_KEYS),
    reopen_visits: script!(new, with_prelude, "reopen_visits", ReopenVisits, VISIT_KEYS),
    apply_effects: script!(new, with_prelude, "apply_effects", ApplyEffects, APPLY_KEYS),
    sync_state: script!(new, with_prelude, "sync_state", SyncState, SYNC_KEYS),
    count_behind: script!(new, plain, "count_behind", CountBehind, &["node_applied"]),
    share_status: script!(new, with_prelude, "share_status", ShareStatus, &["status"]),
    share_heartbeats: script!(
        new,
        with_prelude,
        "share_heartbeats",
        ShareHeartbeats,
        &["heartbeats"]
    ),
    rebuild_begin: script!(
        unguarded,
        plain,
        "rebuild_begin",
        RebuildStep,
        &["ready", "rebuilding"]
    ),
    rebuild_clear: script!(unguarded, plain, "rebuild_clear", RebuildStep, &["rebuilding"]),
    rebuild_subjects: script!(unguarded, plain, "rebuild_subjects", RebuildStep, &["rebuilding"]),
    rebuild_finish: script!(
        unguarded,
        with_prelude,
        "rebuild_finish",
        RebuildFinish,
        FINISH_KEYS
    ),
});
