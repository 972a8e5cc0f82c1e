-- Hangs out a board where the one that was seen hangs still, and gives the one that hangs there then.
-- KEYS 1 board. ARGV 1 time, 2 the version that was seen, 3 its new version (0: only look), 4 its bytes.
-- Returns: version, bytes, age in ms; version 0 when there is none.
local now = clock(ARGV[1])
local b = redis.call('HMGET', KEYS[1], 'version', 'json', 'at')
if ARGV[3] ~= '0' and (b[1] or '0') == ARGV[2] then
    redis.call('HSET', KEYS[1], 'version', ARGV[3], 'json', ARGV[4], 'at', now)
    return { tonumber(ARGV[3]), ARGV[4], 0 }
end
return { tonumber(b[1] or 0), b[2] or '', now - tonumber(b[3] or now) }
