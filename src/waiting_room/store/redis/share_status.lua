-- Publishes a status in place of the one that the node has seen, if that is still published; returns the published one.
-- KEYS status. ARGV now_ms, seen_version, new_version (0: only read), json: the new status.
-- Returns: version, JSON, age (ms); version 0 when none is published.
local now = clock(now_ms)
local published = redis.call('HMGET', status_key, 'version', 'json', 'at')
if new_version ~= '0' and (published[1] or '0') == seen_version then
    redis.call('HSET', status_key, 'version', new_version, 'json', json, 'at', now)
    return { tonumber(new_version), json, 0 }
end
return { tonumber(published[1] or 0), published[2] or '', now - tonumber(published[3] or now) }
