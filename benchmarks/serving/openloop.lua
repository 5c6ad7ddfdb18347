-- Requests that leave when they are due, answered or not. Arguments: how many users, a body in which %d is the user's
-- number, requests a second, seconds, and a file for the answers: one line each of when the request was due (seconds
-- since the start), its milliseconds from then on, and its status.
--
-- Every free connection takes the next request that is due and waits for its time, so one that had none to take it in
-- time is late, and that counts as its latency. Its number goes along as X-Request-ID, which every answer repeats.
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } when; int clock_gettime(int clock, when *now);")
local MONOTONIC, read = 1, ffi.new("when")
local users, template, rate, seconds, file, start
local taken, sent, head = 0, 0, nil

local function now()
  ffi.C.clock_gettime(MONOTONIC, read)
  return tonumber(read.s) + tonumber(read.ns) / 1e9
end

function init(arguments)
  users, template = tonumber(arguments[1]), arguments[2]
  rate, seconds = tonumber(arguments[3]), tonumber(arguments[4])
  file = io.open(arguments[5], "w")
  file:setvbuf("full", 2 ^ 20)
  head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port
    .. "\r\nContent-Type: application/json\r\nX-Request-ID: %d\r\nContent-Length: %d\r\n\r\n%s"
end

function delay()
  start = start or now()
  local due = taken / rate
  taken = taken + 1
  return math.max(0, math.ceil((start + due - now()) * 1000))
end

function request()
  local number, body = sent, template:format(sent % users)
  if start then -- wrk asks for one before the first connection, to look at it
    sent = sent + 1
  end
  return head:format(number, #body, body)
end

function response(status, headers)
  local due = tonumber(headers["x-request-id"]) / rate
  if due < seconds then
    file:write(("%.4f %.3f %d\n"):format(due, (now() - start - due) * 1000, status))
  end
end

function done(summary)
  local e = summary.errors
  print(('{"lost": %d}'):format(e.connect + e.read + e.write + e.timeout))
end
