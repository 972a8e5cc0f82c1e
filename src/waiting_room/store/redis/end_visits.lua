-- Marks the visits that end now: those named, and those whose time is over. The node that gets a visit journals its end;
-- when it does not do so in time, the visit is handed out again.
-- KEYS visits, visit_deadlines. ARGV now_ms, retry_ms: when it is handed out again, limit; then the named visits.
-- Returns: per visit its id, its queue number, and e (it ended) or l (its reservation lapsed).
local now = clock(now_ms)
local retry_at = now + tonumber(retry_ms)
local replies = {}
local function finish(id, is_due)
    local visit = read_visit(visits_key, id)
    if not visit then
        redis.call('ZREM', visit_deadlines_key, id)
    elseif visit.stage == 'a' or (is_due and visit.stage == 'e') then
        visit.stage = 'e'
        write_visit(visits_key, id, visit)
        redis.call('ZADD', visit_deadlines_key, retry_at, id)
        replies[#replies + 1] = { id, visit.number, 'e' }
    elseif is_due and visit.stage == 'r' then
        redis.call('ZADD', visit_deadlines_key, retry_at, id)
        replies[#replies + 1] = { id, visit.number, 'l' }
    end
end
for i = FIRST_ITEM, #ARGV do
    finish(ARGV[i], false)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', visit_deadlines_key, '-inf', now, 'LIMIT', 0, tonumber(limit))) do
    finish(id, true)
end
return replies
