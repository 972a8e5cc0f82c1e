-- Marks the visits that end now: those named, and those whose time is over. Whoever gets one writes its end down; when
-- it is not written down within `again`, somebody gets it again.
-- KEYS 1 visits, 2 ends. ARGV 1 time, 2 again (ms), 3 at most; then the named visits.
-- Returns: visit, number and e (its end) or l (its entry lapsed) for each.
local now = clock(ARGV[1])
local again = now + tonumber(ARGV[2])
local answers = {}
local function finish(id, due)
    local v = read_visit(KEYS[1], id)
    if not v then
        redis.call('ZREM', KEYS[2], id)
    elseif v.stage == 'i' or (due and v.stage == 'e') then
        v.stage = 'e'
        write_visit(KEYS[1], id, v)
        redis.call('ZADD', KEYS[2], again, id)
        answers[#answers + 1] = { id, v.number, 'e' }
    elseif due and v.stage == 'r' then
        redis.call('ZADD', KEYS[2], again, id)
        answers[#answers + 1] = { id, v.number, 'l' }
    end
end
for i = 4, #ARGV do
    finish(ARGV[i], false)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))) do
    finish(id, true)
end
return answers
