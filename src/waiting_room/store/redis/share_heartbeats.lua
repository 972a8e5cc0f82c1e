-- Records the heartbeats that a node received, and returns those that all nodes received since it last asked.
-- KEYS heartbeats. ARGV now_ms, since_ms: the time that the last call returned; then heartbeats, each a text of the queue
-- number and until when it counts.
-- Returns: the time (ms), the heartbeats.
local now = clock(now_ms)
for i = FIRST_ITEM, #ARGV do
    redis.call('ZADD', heartbeats_key, now, ARGV[i])
end
-- No heartbeat counts for longer than two and a half times the longest interval, an hour.
redis.call('ZREMRANGEBYSCORE', heartbeats_key, '-inf', now - 9000000)
return { now, redis.call('ZRANGEBYSCORE', heartbeats_key, since_ms, '+inf', 'LIMIT', 0, 10000) }
