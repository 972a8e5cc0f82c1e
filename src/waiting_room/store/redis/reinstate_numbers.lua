-- Reinstates numbers that were assigned under an earlier epoch, unless their subject has another number by now.
-- KEYS the buckets. ARGV per number: its bucket's index in KEYS, the field, the number.
-- Returns: per number 1 (reinstated) or 0.
local replies = {}
for i = 1, #ARGV, 3 do
    local bucket, field, number = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
    redis.call('HSETNX', bucket, field, number)
    replies[#replies + 1] = redis.call('HGET', bucket, field) == number and 1 or 0
end
return replies
