-- Ends holds past their deadline, and forgets changes that are long past.
-- KEYS: as the table
-- ARGV: 1 the time in tests, else ''; 2 how many at most
-- Returns: {how many, version, changes}
local over = redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', time(ARGV[1]), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(over) do
  local hold = find(id)
  if hold then finish(id, hold) else redis.call('ZREM', DEADLINES, id) end
end
redis.call('XTRIM', CHANGES, 'MAXLEN', '~', 16384)
return {#over, publish()}
