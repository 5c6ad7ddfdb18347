-- Requests of many users, one after the other. Arguments: how many users, and a body in which %d is the user's number.
-- Prints one line of JSON at the end.
local users, template, number = 1, "", 0

function init(arguments)
  users, template = tonumber(arguments[1]), arguments[2]
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  number = (number + 1) % users
  return wrk.format(nil, nil, nil, string.format(template, number))
end

function done(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %.6f, "errors": %d, "refused": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.timeout, e.status,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
