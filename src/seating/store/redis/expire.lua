-- Ends holds that are past their deadline, and trims the stream of changes.
-- KEYS: as the table in mod.rs
-- ARGV: 1 the time in tests, else '' for the server's clock; 2 how many at most
-- Returns: {how many, version, changes}
local expired = redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', time(ARGV[1]), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(expired) do
  local hold = find(id)
  if hold then finish(id, hold) else redis.call('ZREM', DEADLINES, id) end
end
redis.call('XTRIM', CHANGES, 'MAXLEN', '~', 16384)
return {#expired, publish()}
