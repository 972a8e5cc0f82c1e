-- What came of an earlier request with the same idempotency key.
-- KEYS: as hold.lua
-- ARGV: 1 the time in tests, else '' for the server's clock; 2 hash of the key; 3 request hash
-- Returns: {'replayed', hold, record} | {'reused'} | {'unknown'}
local done = redis.call('HGET', KEYS[6], ARGV[2]) or redis.call('HGET', KEYS[7], ARGV[2])
return completed_reply(done, ARGV[3], HOLDS, time(ARGV[1])) or {'unknown'}
