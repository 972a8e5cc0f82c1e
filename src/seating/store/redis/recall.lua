-- What an operation has come to.
-- KEYS: as hold.lua
-- ARGV: 1 the time in tests, else ''; 2 operation; 3 its wish
-- Returns: {'again', hold, record} | {'reused'} | {'unknown'}
return (recall(KEYS[6], KEYS[7], HOLDS, ARGV[2], ARGV[3], time(ARGV[1]))) or {'unknown'}
