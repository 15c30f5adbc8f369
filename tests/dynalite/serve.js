// Says its port on standard output, serves on loopback, and ends with its standard input, however its parent does.
const server = require('dynalite')({ createTableMs: 0, deleteTableMs: 0 })
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.stdin.on('end', () => process.exit()).on('error', () => process.exit()).resume()
