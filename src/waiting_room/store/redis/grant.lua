-- Another pass for a visit that goes on.
-- KEYS 1 visits, 2 ends. ARGV 1 time, 2 visit, 3 life of a pass, 4 longest visit, 5 grace after a pass (ms).
-- Returns: until when the pass may be good, in ms; 0 when the visit is over.
local now = clock(ARGV[1])
local v = read_visit(KEYS[1], ARGV[2])
if not v or v.stage ~= 'i' then
    return 0
end
local limit = math.max(v.began + tonumber(ARGV[4]), v.kept)
if now >= limit then
    return 0
end
local expires = math.min(now + tonumber(ARGV[3]), limit)
v.pass = math.max(v.pass, expires)
write_visit(KEYS[1], ARGV[2], v)
redis.call('ZADD', KEYS[2], math.max(v.pass, v.kept) + tonumber(ARGV[5]), ARGV[2])
return expires
