// The rigs themselves: a test that stands on a broken rig proves nothing.

import { connect as connectSocket, createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { connectAsync } from 'mqtt';
import { describe, expect, it } from 'vitest';
import { startTcpProxy } from '../sim/tcp-proxy.ts';
import { createAuthority } from '../support/certificates.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

describe('mosquitto', () => {
  it('asks for user name, password and a client certificate over TLS', async () => {
    using directory = createTempDir('rig');
    const authority = await createAuthority(directory.path);
    const server = await authority.issue({ name: 'server', hosts: ['127.0.20.1'] });
    const client = await authority.issue({ name: 'client' });
    await using broker = await startMosquitto({
      tls: { ...server, clientCaPath: authority.certificatePath },
      users: { gateway: 'secret' },
    });
    const tls = { ca: authority.certificate, cert: client.certificate, key: client.key, reconnectPeriod: 0 };
    const connection = await connectAsync(broker.url, { ...tls, username: 'gateway', password: 'secret' });
    await connection.endAsync();
    await expect(connectAsync(broker.url, { ...tls, username: 'gateway', password: 'wrong' })).rejects.toThrow(
      /not authori[sz]ed/i,
    );
    await expect(
      connectAsync(broker.url, {
        ca: authority.certificate,
        reconnectPeriod: 0,
        username: 'gateway',
        password: 'secret',
      }),
    ).rejects.toThrow(/certificate|closed/i);
  });

  it('refuses an expired certificate', async () => {
    using directory = createTempDir('rig');
    const authority = await createAuthority(directory.path);
    const server = await authority.issue({ name: 'server', hosts: ['127.0.20.1'], days: 0 });
    await using broker = await startMosquitto({ tls: server });
    await expect(connectAsync(broker.url, { ca: authority.certificate, reconnectPeriod: 0 })).rejects.toMatchObject({
      code: 'CERT_HAS_EXPIRED',
    });
  });

  it('speaks over WebSockets, and comes back on the same port after a kill', async () => {
    await using broker = await startMosquitto({ websockets: true });
    const first = await connectAsync(broker.url, { reconnectPeriod: 0 });
    const closed = new Promise<void>((resolve) => first.once('close', () => resolve()));
    await broker.kill();
    await closed;
    await broker.start();
    await (await connectAsync(broker.url, { reconnectPeriod: 0 })).endAsync();
  });

  it('keeps connections and answers nothing while paused', async () => {
    await using broker = await startMosquitto();
    const client = await connectAsync(broker.url, { reconnectPeriod: 0 });
    broker.pause();
    let answered = false;
    const published = client.publishAsync('t', 'x', { qos: 1 }).then(() => (answered = true));
    await expect(connectAsync(broker.url, { reconnectPeriod: 0, connectTimeout: 300 })).rejects.toThrow(/timeout|ack/i);
    expect(answered).toBe(false);
    broker.resume();
    await published;
    await client.endAsync();
  });
});

async function echo(): Promise<{ port: number } & AsyncDisposable> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  server.listen(0, '127.0.20.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
      }),
  };
}

async function through(
  port: number,
): Promise<{ send(text: string): void; received(): Buffer; closed(): boolean } & Disposable> {
  const socket = connectSocket({ host: '127.0.20.2', port });
  let bytes = Buffer.alloc(0);
  let closed = false;
  socket.on('data', (piece: Buffer) => (bytes = Buffer.concat([bytes, piece])));
  socket.on('error', () => {});
  socket.on('close', () => (closed = true));
  await once(socket, 'connect');
  return {
    send: (text) => socket.write(text),
    received: () => bytes,
    closed: () => closed,
    [Symbol.dispose]: () => socket.destroy(),
  };
}

describe('tcp proxy', () => {
  it('delays, corrupts, swallows, cuts in the middle and refuses', async () => {
    await using server = await echo();
    await using proxy = await startTcpProxy({ target: { host: '127.0.20.1', port: server.port } });
    using client = await through(proxy.port);

    proxy.delay(50);
    const sentAtMs = performance.now();
    client.send('abcd');
    await waitFor(() => client.received().length === 4);
    expect(performance.now() - sentAtMs).toBeGreaterThanOrEqual(99);
    proxy.delay(0);

    proxy.corrupt('down', 2);
    client.send('abcd');
    await waitFor(() => client.received().length === 8);
    expect([...client.received().subarray(4)]).toEqual([0x61, ~0x62 & 0xff, 0x63, ~0x64 & 0xff]);
    proxy.pass();

    proxy.blackHole('down');
    client.send('lost');
    await waitFor(() => proxy.receivedBytes.down === 12);
    expect(client.received()).toHaveLength(8);
    expect(client.closed()).toBe(false);
    proxy.pass();

    proxy.cutAfter('down', 2);
    client.send('wxyz');
    await waitFor(() => client.closed());
    expect(client.received().subarray(8).toString()).toBe('wx');

    await proxy.refuse();
    await expect(through(proxy.port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await proxy.listen();
    using again = await through(proxy.port);
    again.send('back');
    await waitFor(() => again.received().toString() === 'back');
  });

  it('throttles', async () => {
    await using server = await echo();
    await using proxy = await startTcpProxy({ target: { host: '127.0.20.1', port: server.port } });
    using client = await through(proxy.port);
    proxy.throttle(10_000);
    const sentAtMs = performance.now();
    client.send('x'.repeat(1000));
    await waitFor(() => client.received().length === 1000);
    expect(performance.now() - sentAtMs).toBeGreaterThanOrEqual(190);
  });
});
