-- One node's tick: takes what the node reports (how far it has applied the journal, visits to extend, what box offices
-- said), frees slots, and returns what the admission policy needs. One node at a time is the caller; another takes over
-- when it falls silent.
-- KEYS state, visits, visit_deadlines, called, called_silent_since, late, late_silent_since, ended_visits, node_applied,
-- node_seen_at, caller, stock.
-- ARGV now_ms, claim_ttl_ms, slot_grace_ms, report_ttl_ms: when a silent node or box office no longer counts, node,
-- applied_seq: the last record that the node has applied, passes_checked_elsewhere (1 or 0), caller_lease_ms, zones: a box
-- office's stock, or empty, healths: how many box offices reported their health; then per health its source and the
-- report; then per extended visit its id and until when (ms).
-- Returns: names and values, alternating; see `SyncReply` in the program.
local now, us = clock(now_ms)
local grace, silent_before = tonumber(slot_grace_ms), now - tonumber(report_ttl_ms)
local first_visit = FIRST_ITEM + 2 * tonumber(healths)
for i = first_visit, #ARGV, 2 do
    local visit = read_visit(visits_key, ARGV[i])
    if visit then
        visit.kept_until = math.max(visit.kept_until, tonumber(ARGV[i + 1]))
        write_visit(visits_key, ARGV[i], visit)
        if visit.stage == 'a' then
            redis.call('ZADD', visit_deadlines_key, math.max(visit.pass_until, visit.kept_until) + grace, ARGV[i])
        end
    end
end
-- A slot is free once no node accepts its pass any more: each has applied the visit's end, or the pass has expired.
redis.call('ZADD', node_applied_key, applied_seq, node)
redis.call('ZADD', node_seen_at_key, now, node)
for _, silent in ipairs(redis.call('ZRANGEBYSCORE', node_seen_at_key, '-inf', '(' .. silent_before)) do
    redis.call('ZREM', node_applied_key, silent)
    redis.call('ZREM', node_seen_at_key, silent)
end
local applied_by_all = 0
if passes_checked_elsewhere ~= '1' then
    applied_by_all = tonumber(redis.call('ZRANGE', node_applied_key, 0, 0, 'WITHSCORES')[2])
end
local ended = redis.call('ZRANGE', ended_visits_key, 0, 999, 'WITHSCORES')
for i = 1, #ended, 2 do
    local pass_over = tonumber(redis.call('ZSCORE', visit_deadlines_key, ended[i]) or 0)
    if tonumber(ended[i + 1]) <= applied_by_all or pass_over <= now then
        redis.call('HDEL', visits_key, ended[i])
        redis.call('ZREM', visit_deadlines_key, ended[i])
        redis.call('ZREM', ended_visits_key, ended[i])
    end
end
drop_lapsed_claims(called_key, called_silent_since_key, now - tonumber(claim_ttl_ms))
drop_lapsed_claims(late_key, late_silent_since_key, now - tonumber(claim_ttl_ms))
local caller = redis.call('GET', caller_key)
local is_caller = not caller or caller == node
if is_caller then
    redis.call('SET', caller_key, node, 'PX', caller_lease_ms)
end
if zones ~= '' then
    redis.call('HSET', stock_key, 'zones', zones, 'at', now)
end
for i = FIRST_ITEM, first_visit - 1, 2 do
    redis.call('HSET', stock_key, 'health:' .. ARGV[i], string.format('%.0f %s', now, ARGV[i + 1]))
end
local stock = redis.call('HMGET', stock_key, 'zones', 'at')
local reports = redis.call('HGETALL', stock_key)
local current = {}
for i = 1, #reports, 2 do
    if string.sub(reports[i], 1, 7) == 'health:' then
        local at, health = string.match(reports[i + 1], '^(%d+) (.*)$')
        if at and tonumber(at) >= silent_before then
            current[#current + 1] = health
        else
            redis.call('HDEL', stock_key, reports[i])
        end
    end
end
local s = redis.call('HMGET', state_key, 'now_serving', 'applied_seq')
return {
    'now_serving', tonumber(s[1]),
    'applied_seq', tonumber(s[2]),
    'active', redis.call('HLEN', visits_key),
    'permits', math.floor(fill_permits(state_key, us) / PERMIT),
    'called_claimants', redis.call('ZCARD', called_key),
    'late_claimants', redis.call('ZCARD', late_key),
    'is_caller', is_caller and 1 or 0,
    'zones', stock[1] or '',
    'stock_age_ms', stock[2] and now - tonumber(stock[2]) or 0,
    'first_called', redis.call('ZRANGE', called_key, 0, 1023),
    'first_late', redis.call('ZRANGE', late_key, 0, 1023),
    'healths', current,
}
