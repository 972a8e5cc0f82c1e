local READY, HOME, REBUILDING = KEYS[8], KEYS[9], KEYS[10]
local EPOCH = ARGV[#ARGV - 2]
if redis.call('GET', REBUILDING) ~= EPOCH .. ':' .. ARGV[#ARGV - 1] then return redis.error_reply('REBUILDING by somebody else') end
redis.call('PEXPIRE', REBUILDING, ARGV[#ARGV])
