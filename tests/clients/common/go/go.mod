module krocket.test/scenario

go 1.25
