-- Follows the journal: what its records after `after` up to `upto` mean here. In order, each once, whoever sends them.
-- KEYS 1 state, 2 visits, 3 by_number, 4 ends, 5 called, 6 called_asked, 7 returners, 8 returners_asked, 9 gone, then
-- buckets. ARGV 1 time, 2 after, 3 upto, 4 life of a pass, 5 grace after it (ms); then seq, kind and four values each:
--   C upto                           called
--   E number visit began             entered
--   X arrival visit bucket field     the visit has ended
--   L arrival number bucket field    left the line
--   V number visit                   the entry lapsed
--   S rate burst capacity stopped    how the door is set
-- Subjects are kept with their arrival numbers; everything else goes by queue numbers.
-- Returns: the last record that is applied; less than `after` when records are missing before these.
local _, us = clock(ARGV[1])
local applied = tonumber(redis.call('HGET', KEYS[1], 'applied'))
local after, upto = tonumber(ARGV[2]), tonumber(ARGV[3])
if applied < after or applied >= upto then
    return applied
end
local function forget_claim(number)
    for place = 5, 8 do
        redis.call('ZREM', KEYS[place], number)
    end
end
local function forget_subject(arrival, place, field)
    local bucket = KEYS[tonumber(place)]
    if bucket and redis.call('HGET', bucket, field) == arrival then
        redis.call('HDEL', bucket, field)
    end
end
for i = 6, #ARGV, 6 do
    local seq, kind, a, b, c, d = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
    if seq > applied then
        if kind == 'C' then
            redis.call('HSET', KEYS[1], 'now_serving', a)
        elseif kind == 'E' then
            local began = tonumber(c)
            local v = read_visit(KEYS[2], b) or { number = tonumber(a), began = began, pass = began + tonumber(ARGV[4]), kept = began }
            if not v.stage or v.stage == 'r' then
                v.stage = 'i'
                write_visit(KEYS[2], b, v)
                redis.call('HSET', KEYS[3], a, b)
                redis.call('ZADD', KEYS[4], math.max(v.pass, v.kept) + tonumber(ARGV[5]), b)
            end
            forget_claim(a)
        elseif kind == 'X' then
            local v = read_visit(KEYS[2], b)
            if v and v.stage ~= 'g' then
                v.stage = 'g'
                write_visit(KEYS[2], b, v)
                redis.call('ZADD', KEYS[4], math.max(v.pass, v.kept) + tonumber(ARGV[5]), b)
                redis.call('ZADD', KEYS[9], seq, b)
                redis.call('HDEL', KEYS[3], string.format('%.0f', v.number))
            end
            forget_subject(a, c, d)
        elseif kind == 'L' then
            forget_claim(b)
            forget_subject(a, c, d)
        elseif kind == 'V' then
            local v = read_visit(KEYS[2], b)
            if v and v.stage == 'r' then
                redis.call('HDEL', KEYS[2], b)
                redis.call('HDEL', KEYS[3], a)
                redis.call('ZREM', KEYS[4], b)
            end
        elseif kind == 'S' then
            local units, _, filled = fill(KEYS[1], us)
            redis.call('HSET', KEYS[1], 'rate', a, 'burst', b, 'capacity', c, 'paused', d, 'filled_us', filled,
                'units', math.min(units, tonumber(b) * PERMIT))
        end
    end
end
redis.call('HSET', KEYS[1], 'applied', upto)
return upto
