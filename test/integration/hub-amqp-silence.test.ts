// Clients of AMQP that do not say who they are: closed in time, and counted. On a clock that the test moves.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createAmqpHead } from '../../modules/hub-amqp/head.ts';
import type { ProtocolHead } from '../../src/core/hub/head.ts';
import { silentLogger } from '../../src/observe/logger.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { createHubDoors } from '../../src/wire/hub-listeners.ts';
import type { HubDoorsService } from '../../src/wire/hub-doors.ts';
import { connectAmqp } from '../support/amqp-client.ts';
import { freePort } from '../support/free-port.ts';
import { HOST, HUB, hubRig, type HubRig } from '../support/hub.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.108.10';

let rig: HubRig;
let doors: HubDoorsService;
let head: ProtocolHead;
let port: number;
let refused: string[];

beforeEach(async () => {
  refused = [];
  rig = await hubRig({ clock: new ManualClock() });
  port = await freePort(ADDRESS);
  doors = createHubDoors({
    address: ADDRESS,
    ports: { mqtts: 0, amqps: 0, https: 0, amqp: port },
    certificates: [],
    maxHandshakesPerSec: 1000,
    clock: new SystemClock(),
    log: silentLogger,
    reportRefusal: (reason) => void refused.push(reason),
  });
  head = createAmqpHead({
    hub: rig.hub,
    doors,
    clock: rig.clock,
    log: silentLogger,
    reportRefusal: (reason) => void refused.push(reason),
  });
  rig.hub.attachHead('amqp', (items) => head.deliver(items));
  await head.start(new AbortController().signal);
});

afterEach(async () => {
  await head.stop(AbortSignal.abort());
  await doors.close();
  await rig.hub.stop();
});

async function silent(bytes?: Buffer): Promise<Socket> {
  const socket = connect({ host: ADDRESS, port });
  socket.on('error', () => {});
  socket.resume();
  await once(socket, 'connect');
  if (bytes !== undefined) socket.write(bytes);
  return socket;
}

it.each([
  ['nothing', undefined],
  ['its header and no OPEN', Buffer.from('AMQP\0\x01\0\0', 'latin1')],
  ['half a header', Buffer.from('AMQ')],
])('a client that says %s is closed after half a minute', async (_what, bytes) => {
  const socket = await silent(bytes);
  const closed = once(socket, 'close');
  await waitFor(() => {
    rig.clock.advance(10_000);
    return refused.length > 0;
  });
  rig.clock.advance(10_000);
  await closed;
  expect(refused).toEqual(['open_timeout']);
});

it('a client that opens and never logs in is closed after a minute, one with a token stays', async () => {
  await rig.hub.identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
  using stranger = await connectAmqp({ host: ADDRESS, port, hostName: HOST });
  using device = await connectAmqp({ host: ADDRESS, port, hostName: HOST });
  expect(await device.putToken(`${HOST}/devices/d1`, await rig.token({ deviceId: 'd1' }))).toBe(200);
  rig.clock.advance(61_000);
  expect(await stranger.closed).toMatchObject({ condition: 'amqp:unauthorized-access' });
  expect(refused).toEqual(['login_timeout']);
  expect(device.connection.is_open()).toBe(true);
});
