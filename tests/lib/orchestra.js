// orchestra.js - drives Xen Orchestra's vhd-lib, as its backups do:
//   node orchestra.js MODULES check FILE               every image of the chain is one
//                             flatten FILE OUT         the chain as one dynamic image
//                             content FILE OUT         a dynamic image as a raw disk
//                             merge PARENT CHILD       into the parent, which takes the child's id
//                             chain PARENT CHILD       another parent, or another path of it
//                             stream FILE OUT          as sent to a host: its length known beforehand
const fs = require('fs')
const util = require('util')
const pipeline = util.promisify(require('stream').pipeline)
const [modules, command, ...names] = process.argv.slice(2)
const lib = require(modules + '/vhd-lib')

const withFile = (file, flags, act) => {
  if (typeof file !== 'string') return act(file.fd)
  const fd = fs.openSync(file, flags)
  try {
    return act(fd)
  } finally {
    fs.closeSync(fd)
  }
}
const handler = {
  openFile: async (path, flags) => ({ fd: fs.openSync(path, flags) }),
  closeFile: async file => fs.closeSync(file.fd),
  getSize: async file => withFile(file, 'r', fd => fs.fstatSync(fd).size),
  read: async (file, buffer, position) =>
    withFile(file, 'r', fd => ({ bytesRead: fs.readSync(fd, buffer, 0, buffer.length, position), buffer })),
  write: async (file, buffer, position) =>
    withFile(file, 'r+', fd => fs.writeSync(fd, buffer, 0, buffer.length, position)),
}
const commands = {
  check: file => lib.checkVhdChain(handler, file),
  flatten: async (file, out) =>
    pipeline(await lib.createSyntheticStream(handler, file), fs.createWriteStream(out)),
  content: async (file, out) =>
    pipeline(await lib.createContentStream(handler, file), fs.createWriteStream(out)),
  merge: (parent, child) => lib.mergeVhd(handler, parent, handler, child),
  chain: (parent, child) => lib.chainVhd(handler, parent, handler, child),
  stream: async (file, out) => {
    const stream = await lib.createVhdStreamWithLength(fs.createReadStream(file))
    const length = stream.length
    await pipeline(stream, fs.createWriteStream(out))
    if (fs.statSync(out).size !== length) throw new Error('not as long as it said')
  },
}
commands[command](...names).catch(error => {
  console.error(`orchestra.js: ${command}: ${error.stack}`)
  process.exit(1)
})
