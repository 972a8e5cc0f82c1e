-- Takes down who has been heard of, and gives who has been since this node last asked.
-- KEYS 1 present. ARGV 1 time, 2 the time that the last call gave; then a number and until when it counts each, as one text.
-- Returns: the time, the texts.
local now = clock(ARGV[1])
for i = 3, #ARGV do
    redis.call('ZADD', KEYS[1], now, ARGV[i])
end
-- Nobody counts for longer than two and a half times the longest pause.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 9000000)
return { now, redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], '+inf', 'LIMIT', 0, 10000) }
