-- Assigns arrival numbers: a range to anonymous visitors, and one number to each customer who has none. Idempotent for
-- customers: a subject keeps its number.
-- KEYS state; then a bucket per customer.
-- ARGV max_number: what the journal allows, people_max: how many visitors the sale takes, unused: numbers that no visitor
-- got since the node's last call, anonymous: how many numbers to assign to anonymous visitors; then a field per customer.
-- Returns: the highest number assigned so far; the first anonymous number and how many there are; the sale's last number,
-- which lies as far above people_max as numbers are unused; then per customer n
-- (newly assigned), -n (assigned before) or 0 (none left below the ceiling).
local v = redis.call('HMGET', state_key, 'issued', 'max_number', 'unused')
local issued = tonumber(v[1])
local before = issued
local last = tonumber(people_max) + tonumber(v[3] or 0) + tonumber(unused)
local ceiling = math.min(math.max(tonumber(v[2]), tonumber(max_number)), last)
local range = math.min(tonumber(anonymous), math.max(ceiling - issued, 0))
issued = issued + range
local replies = { 0, before + 1, range, last }
for i = 2, #KEYS do
    local bucket, field = KEYS[i], ARGV[i + 3]
    -- Nearly all customers are new, so one command both checks and writes.
    if issued < ceiling and redis.call('HSETNX', bucket, field, issued + 1) == 1 then
        issued = issued + 1
        replies[i + 3] = issued
    else
        replies[i + 3] = -tonumber(redis.call('HGET', bucket, field) or 0)
    end
end
if unused ~= '0' then
    redis.call('HINCRBY', state_key, 'unused', unused)
end
if issued > before then
    redis.call('HSET', state_key, 'issued', issued, 'max_number', ceiling)
end
replies[1] = issued
return replies
