-- What a tick needs to know, and what it brings: how far this node has followed the journal, which visits are to be
-- kept, what the box office said last. One node at a time is the caller; another takes over when it falls silent.
-- KEYS 1 state, 2 visits, 3 ends, 4 called, 5 called_asked, 6 returners, 7 returners_asked, 8 gone, 9 nodes,
-- 10 nodes_seen, 11 caller, 12 stock.
-- ARGV 1 time, 2 when a claim lapses, 3 grace after a pass, 4 when a silent node or box office counts no more (ms),
-- 5 this node, 6 the record it has followed to, 7 whether passes are checked elsewhere, 8 the caller's lease (ms), 9 what
-- a box office said of its stock, or nothing, 10 how many said how their visitors fare; then each one's name and words;
-- then a visit and until when it is kept each.
-- Returns: now serving, applied, active, permits, called claimants, returners, whether this node is the caller, stock,
-- its age in ms; then the first claimants of either lane; then how the visitors of each box office fare.
local now, us = clock(ARGV[1])
local grace = tonumber(ARGV[3])
local visits = 11 + 2 * tonumber(ARGV[10])
for i = visits, #ARGV, 2 do
    local v = read_visit(KEYS[2], ARGV[i])
    if v then
        v.kept = math.max(v.kept, tonumber(ARGV[i + 1]))
        write_visit(KEYS[2], ARGV[i], v)
        if v.stage == 'i' then
            redis.call('ZADD', KEYS[3], math.max(v.pass, v.kept) + grace, ARGV[i])
        end
    end
end
-- A slot is free when no node lets its pass in any more: each has followed the journal so far, or the pass is over.
redis.call('ZADD', KEYS[9], ARGV[6], ARGV[5])
redis.call('ZADD', KEYS[10], now, ARGV[5])
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[10], '-inf', '(' .. (now - tonumber(ARGV[4])))) do
    redis.call('ZREM', KEYS[9], node)
    redis.call('ZREM', KEYS[10], node)
end
local followed = ARGV[7] == '1' and 0 or tonumber(redis.call('ZRANGE', KEYS[9], 0, 0, 'WITHSCORES')[2])
local gone = redis.call('ZRANGE', KEYS[8], 0, 999, 'WITHSCORES')
for i = 1, #gone, 2 do
    local over = tonumber(redis.call('ZSCORE', KEYS[3], gone[i]) or 0)
    if tonumber(gone[i + 1]) <= followed or over <= now then
        redis.call('HDEL', KEYS[2], gone[i])
        redis.call('ZREM', KEYS[3], gone[i])
        redis.call('ZREM', KEYS[8], gone[i])
    end
end
forget_lapsed(KEYS[4], KEYS[5], now - tonumber(ARGV[2]))
forget_lapsed(KEYS[6], KEYS[7], now - tonumber(ARGV[2]))
local caller = redis.call('GET', KEYS[11])
local is_caller = not caller or caller == ARGV[5]
if is_caller then
    redis.call('SET', KEYS[11], ARGV[5], 'PX', ARGV[8])
end
if ARGV[9] ~= '' then
    redis.call('HSET', KEYS[12], 'zones', ARGV[9], 'at', now)
end
for i = 11, visits - 1, 2 do
    redis.call('HSET', KEYS[12], 'h:' .. ARGV[i], string.format('%.0f %s', now, ARGV[i + 1]))
end
local stock = redis.call('HMGET', KEYS[12], 'zones', 'at')
local said = redis.call('HGETALL', KEYS[12])
local healths = {}
for i = 1, #said, 2 do
    local at, words = string.match(said[i + 1], '^(%d+) (.*)$')
    if string.sub(said[i], 1, 2) == 'h:' then
        if at and now - tonumber(at) <= tonumber(ARGV[4]) then
            healths[#healths + 1] = words
        else
            redis.call('HDEL', KEYS[12], said[i])
        end
    end
end
local units = fill(KEYS[1], us)
local s = redis.call('HMGET', KEYS[1], 'now_serving', 'applied')
return {
    tonumber(s[1]), tonumber(s[2]), redis.call('HLEN', KEYS[2]), math.floor(units / PERMIT), redis.call('ZCARD', KEYS[4]),
    redis.call('ZCARD', KEYS[6]), is_caller and 1 or 0, stock[1] or '', stock[2] and now - tonumber(stock[2]) or 0,
    redis.call('ZRANGE', KEYS[4], 0, 1023), redis.call('ZRANGE', KEYS[6], 0, 1023), healths,
}
