listeners {
  port_min = 1024
  port_max = 49151

  allowed {
    local = "127.0.0.1"
    any   = "0.0.0.0"
  }
}

consul {
  address = "http://127.0.0.1:8500"
}

peek = {
  listener = "127.0.0.1:4141"
}

runtime = {
  gomaxprocs = 4
}
