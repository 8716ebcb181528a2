import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { openWebSocket } from '../../../../src/wire/web-socket-client.ts';
import { waitFor } from '../../../support/wait.ts';

it('gives up a peer that never answers the upgrade, also where it goes on sending', async () => {
  const accepted: Socket[] = [];
  let asked = '';
  const server = createServer((peer) => {
    accepted.push(peer);
    peer.on('error', () => {});
    // The beginning of an answer, and then a header without an end.
    peer.write('HTTP/1.1 101 Switching Protocols\r\nx: ');
    const drip = setInterval(() => peer.write('x'), 10);
    peer.on('close', () => clearInterval(drip));
    peer.on('data', (data) => (asked += data.toString()));
  });
  server.listen(0, '127.0.167.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.167.1');
  await once(socket, 'connect');
  const opened = openWebSocket({
    socket,
    host: 'broker.example',
    path: '/amqp',
    protocol: 'amqp',
    target: 'wss://broker.example',
    timeoutMs: 200,
    signal: new AbortController().signal,
    clock: new SystemClock(),
  });
  await expect(opened).rejects.toMatchObject({
    code: 'GW_TIMEOUT',
    message: 'wss://broker.example did not answer the WebSocket upgrade within 200 ms.',
  });
  expect(asked).toContain('GET /amqp HTTP/1.1');
  await waitFor(() => accepted[0]?.destroyed === true);
  server.close();
});
