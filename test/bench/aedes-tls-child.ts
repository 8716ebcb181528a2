// A bare broker over TLS that stores nothing and passes nothing on. Arguments: its address, and the paths of its certificate and
// key. Reports its port.

import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:tls';
import { Aedes } from 'aedes';

const [address = '127.0.0.1', certificate = '', key = ''] = process.argv.slice(2);
const broker = await Aedes.createBroker();
const server = createServer(
  { cert: readFileSync(certificate), key: readFileSync(key), noDelay: true },
  (socket) => void broker.handle(socket),
);
server.listen({ host: address, port: 0 }, () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
