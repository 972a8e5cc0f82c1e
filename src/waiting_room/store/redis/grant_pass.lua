-- Extends an admitted visit by another pass.
-- KEYS visits, visit_deadlines.
-- ARGV now_ms, visit, pass_ttl_ms, visit_max_ms: the longest visit, slot_grace_ms: how long a slot is kept after its pass.
-- Returns: until when the pass may be valid (ms); 0 when the visit is over.
local now = clock(now_ms)
local v = read_visit(visits_key, visit)
if not v or v.stage ~= 'a' then
    return 0
end
local limit = math.max(v.started + tonumber(visit_max_ms), v.kept_until)
if now >= limit then
    return 0
end
local expires = math.min(now + tonumber(pass_ttl_ms), limit)
v.pass_until = math.max(v.pass_until, expires)
write_visit(visits_key, visit, v)
redis.call('ZADD', visit_deadlines_key, math.max(v.pass_until, v.kept_until) + tonumber(slot_grace_ms), visit)
return expires
