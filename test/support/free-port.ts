// A port for programs that cannot be told to choose one themselves.

import { createServer, type AddressInfo } from 'node:net';

/** A TCP port that nobody listens on at `address` now. */
export function freePort(address = '127.0.0.1'): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, address, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
