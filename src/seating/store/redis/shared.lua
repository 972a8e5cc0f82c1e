-- What the scripts on holds share; this part stands before each of them. KEYS: as the table in mod.rs.
--
-- A hold's record: H (held), P (being paid) or B (booked); extensions left, 1 byte; deadline in ms, 13 digits; visit, 16
-- bytes; number of seats, 2 bytes; the seats, 4 bytes each; subject. Changes are groups of: state, 1 byte; number of seats,
-- 2 bytes; the seats, 4 bytes each. All integers are big-endian.
local SEATS, HOLDS, DEADLINES, HOLDERS, CHANGES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FREE, HELD, BOOKED, BLOCKED = 0, 1, 2, 3
-- Lua's unpack() cannot pass many more arguments to one command.
local BATCH = 1000

local function time(given)
  if given ~= '' then return tonumber(given) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function decode(record)
  local count = struct.unpack('>I2', record, 32)
  local seats = {}
  for i = 1, count do seats[i] = struct.unpack('>I4', record, 30 + 4 * i) end
  return {
    state = record:sub(1, 1), left = record:byte(2), deadline = tonumber(record:sub(3, 15)), visit = record:sub(16, 31),
    seats = seats, subject = record:sub(34 + 4 * count),
  }
end

local function encode(hold)
  local seats = {}
  for i, seat in ipairs(hold.seats) do seats[i] = struct.pack('>I4', seat) end
  return hold.state .. string.char(hold.left) .. string.format('%013.0f', hold.deadline) .. hold.visit
    .. struct.pack('>I2', #seats) .. table.concat(seats) .. hold.subject
end

local function find(id)
  local record = redis.call('HGET', HOLDS, id)
  return record and decode(record)
end

-- The subject's own hold, if it is not over. Its deadline counts even while the hold is not ended yet.
local function live(id, subject, now)
  local hold = find(id)
  if not hold or hold.subject ~= subject or hold.state == 'B' then return nil end
  if hold.state == 'H' and now >= hold.deadline then return nil end
  return hold
end

local function keep(id, hold)
  local record = encode(hold)
  redis.call('HSET', HOLDS, id, record)
  if hold.state == 'H' then
    redis.call('ZADD', DEADLINES, hold.deadline, id)
  else
    redis.call('ZREM', DEADLINES, id)
  end
  return record
end

local function numbers(from)
  local seats = {}
  for i = from, #ARGV do seats[#seats + 1] = tonumber(ARGV[i]) end
  return seats
end

local function set_of(seats)
  local set = {}
  for _, seat in ipairs(seats) do set[seat] = true end
  return set
end

local function without(seats, set)
  local rest = {}
  for _, seat in ipairs(seats) do
    if not set[seat] then rest[#rest + 1] = seat end
  end
  return rest
end

local function bit_of(seat) return 8 * math.floor(seat / 4) + 6 - 2 * (seat % 4) end

local function states_of(seats)
  local states = {}
  for first = 1, #seats, BATCH do
    local get = {}
    for i = first, math.min(first + BATCH - 1, #seats) do
      get[#get + 1] = 'GET'
      get[#get + 1] = 'u2'
      get[#get + 1] = bit_of(seats[i])
    end
    for i, state in ipairs(redis.call('BITFIELD', SEATS, unpack(get))) do states[first - 1 + i] = state end
  end
  return states
end

-- Those of the seats that are in the state, or, with `other`, in another one.
local function those_in(seats, state, other)
  local found = {}
  if #seats == 0 then return found end
  for i, now in ipairs(states_of(seats)) do
    if (now == state) ~= (other or false) then found[#found + 1] = seats[i] end
  end
  return found
end

local changed, states_now, packed = {}, {}, {}

-- Notes new states; `publish` writes them.
local function mark(seats, state)
  for first = 1, #seats, BATCH do
    local last = math.min(first + BATCH - 1, #seats)
    packed[#packed + 1] = string.char(state) .. struct.pack('>I2', last - first + 1)
    for i = first, last do
      changed[#changed + 1] = seats[i]
      states_now[#changed] = state
      packed[#packed + 1] = struct.pack('>I4', seats[i])
    end
  end
end

-- Writes what was marked, as one change with one version. Returns the version and the changes, for this node's feed.
local function publish()
  if #changed == 0 then return '', '' end
  for first = 1, #changed, BATCH do
    local set = {}
    for i = first, math.min(first + BATCH - 1, #changed) do
      set[#set + 1] = 'SET'
      set[#set + 1] = 'u2'
      set[#set + 1] = bit_of(changed[i])
      set[#set + 1] = states_now[i]
    end
    redis.call('BITFIELD', SEATS, unpack(set))
  end
  local changes = table.concat(packed)
  return redis.call('XADD', CHANGES, EPOCH .. '-*', 'c', changes), changes
end

-- How many seats a subject has, and the ids of its holds and bookings, 16 bytes each.
local function holder(subject)
  local count, ids = (redis.call('HGET', HOLDERS, subject) or '0'):match('^(%d+) ?(.*)$')
  return tonumber(count), ids
end

-- Changes both; a subject without seats is removed.
local function set_holder(subject, count, ids)
  if count > 0 then
    redis.call('HSET', HOLDERS, subject, count .. ' ' .. ids)
  else
    redis.call('HDEL', HOLDERS, subject)
  end
end

local function add_seats(subject, more)
  local count, ids = holder(subject)
  if more ~= 0 then set_holder(subject, count + more, ids) end
end

local function add_hold(id, hold)
  local count, ids = holder(hold.subject)
  set_holder(hold.subject, count + #hold.seats, ids .. id)
end

local function remove_hold(id, hold)
  local count, ids = holder(hold.subject)
  local others = {}
  for at = 1, #ids, 16 do
    local other = ids:sub(at, at + 15)
    if other ~= id then others[#others + 1] = other end
  end
  set_holder(hold.subject, count - #hold.seats, table.concat(others))
end

-- Ends a hold or a booking: its seats become free.
local function finish(id, hold)
  redis.call('HDEL', HOLDS, id)
  redis.call('ZREM', DEADLINES, id)
  remove_hold(id, hold)
  mark(hold.seats, FREE)
end

local function is_overdue(now) return redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now, 'LIMIT', 0, 1)[1] end

