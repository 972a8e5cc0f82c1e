-- What an operation has come to.
-- KEYS: as hold.lua
-- ARGV: 1 the time in tests, else ''; 2 operation; 3 its wish
-- Returns: {'again', hold, record} | {'reused'} | {'unknown'}
local done = redis.call('HGET', KEYS[6], ARGV[2]) or redis.call('HGET', KEYS[7], ARGV[2])
return answer_of(done, ARGV[3], HOLDS, time(ARGV[1])) or {'unknown'}
