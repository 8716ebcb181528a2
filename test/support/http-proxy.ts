// An HTTP proxy that knows the CONNECT method alone, and answers it as a test wants.

import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';

export interface HttpProxy extends AsyncDisposable {
  readonly url: string;
  readonly connects: readonly string[];
}

/** @param status of its answers to CONNECT; with 200 it wants these credentials, where there are some. */
export async function startHttpProxy(address: string, status: number, authorization?: string): Promise<HttpProxy> {
  const connects: string[] = [];
  const server: Server = createServer();
  server.on('connect', (request, socket) => {
    connects.push(request.url ?? '');
    socket.on('error', () => {});
    if (status !== 200 || request.headers['proxy-authorization'] !== authorization) {
      socket.end(`HTTP/1.1 ${status === 200 ? '407 Proxy Authentication Required' : `${status} No`}\r\n\r\n`);
      return;
    }
    const [host, port] = (request.url ?? '').split(':');
    const target = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n');
      target.pipe(socket).pipe(target);
    });
    target.on('error', () => socket.destroy());
    socket.on('close', () => target.destroy());
  });
  await new Promise<void>((resolve) => {
    server.listen(0, address, resolve);
  });
  return {
    url: `http://${address}:${(server.address() as AddressInfo).port}`,
    connects,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
