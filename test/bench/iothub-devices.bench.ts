// Five hundred leaf devices through the gateway to IoT Hub, here the local hub of a second daemon: each under its own identity, all
// of them on one AMQP connection.

import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { run as runProgram } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import { atLeast, atMost, whole, type BenchContext, type BenchRow } from './bench.ts';
import { mqttFieldYaml, spawnDaemon, type BenchDaemon } from './daemon.ts';
import { DEVICE_KEY, HOST_NAME, openService, type HubService, type HubTarget } from './hub-client.ts';
import { startConsumer } from './hub-consumer.ts';
import { startHub } from './hub.ts';
import { openClient, publishPacket } from './mqtt-load.ts';
import { rssMb } from './process-meter.ts';

const ADDRESS = '127.0.162.2';
const DEVICES = 500;
const BODY_BYTES = 256;
const RSS_BAR_MB = 200;
/** The shortest that a token may live; the hub ends a device's session with its token. */
const TOKEN_SECS = 300;
/** Past the end of every first token. */
const RENEWED_SECS = TOKEN_SECS + 20;
const QUICK_SECS = 30;
/** Until every device has its links. */
const SETTLE_SECS = 10;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const secs = context.quick ? QUICK_SECS : RENEWED_SECS;
  const { daemon: hub, target } = await startHub(context, { address: ADDRESS, directory: 'hub' });
  await using _ = hub;
  const service = openService(target);
  // The last one is the gateway.
  await service.createDevices(DEVICES + 1);
  await using consumer = await startConsumer({ address: ADDRESS, port: target.amqpsPort, caPath: target.caPath });
  const { daemon, fieldPort } = await startGateway(context, target);
  await using _daemon = daemon;
  context.progress(`${DEVICES} devices for ${SETTLE_SECS + secs} s`);
  const load = await startDevices(fieldPort);
  const startedMs = performance.now();
  await sleep(SETTLE_SECS * 1000);
  const sessionsBefore = await sessionsOf(service);
  const rss: number[] = [];
  const connections = new Set<string>();
  for (let second = 0; second < secs; second += 1) {
    await sleep(1000);
    rss.push(rssMb(daemon.pid));
    for (const connection of await connectionsOf(daemon, target)) connections.add(connection);
  }
  const tookSecs = (performance.now() - startedMs) / 1000;
  const sent = await load.stop();
  const { again, foreign } = await consumer.receive(sent);
  if (connections.size !== 1) {
    const ends = [...connections].join(', ');
    throw new Error(`There were ${connections.size} TCP connections: ${ends}.\n${daemon.log()}`);
  }
  if ((await sessionsOf(service)) !== sessionsBefore) {
    throw new Error(`A session of a device did not last.\n${daemon.log()}`);
  }
  await daemon.stop();
  service.close();
  const renewal = context.quick
    ? 'renewal of the tokens only in a run that is not quick'
    : `tokens of ${TOKEN_SECS} s renewed, sessions unbroken`;
  return [
    {
      what: `${DEVICES} leaf devices on one AMQP connection to the local hub, a message a second each: at the hub under their own identities`,
      measured: `${whole(sent)} messages in ${tookSecs.toFixed(0)} s over 1 TCP connection, ${again} twice; ${renewal}`,
      value: ((sent - foreign) / sent) * 100,
      unit: '%',
      bar: atLeast(100),
    },
    {
      what: 'the same: RSS of the gateway',
      measured: `largest of ${rss.length} looks, one a second; the devices over MQTT`,
      value: Math.max(...rss),
      unit: 'MB',
      bar: atMost(RSS_BAR_MB),
    },
  ];
}

async function startGateway(
  context: BenchContext,
  { address, amqpsPort, caPath }: HubTarget,
): Promise<{ readonly daemon: BenchDaemon; readonly fieldPort: number }> {
  const [fieldPort, webPort] = [await freePort(ADDRESS), await freePort(ADDRESS)];
  const keys = Array.from({ length: DEVICES }, (_, index) => `device-${index}: { key: ${DEVICE_KEY} }`);
  const daemon = spawnDaemon({
    daemon: context.daemon,
    directory: join(context.directory, 'gateway'),
    web: `${ADDRESS}:${webPort}`,
    config: `gateway: { id: bench }
${mqttFieldYaml(ADDRESS, fieldPort)}
upstream:
  type: iothub
  host_name: ${HOST_NAME}
  gateway_host_name: ${address}
  device_id: device-${DEVICES}
  shared_access_key: ${DEVICE_KEY}
  ca: !file ${caPath}
  protocol: amqp
  port: ${amqpsPort}
  token_lifetime_secs: ${TOKEN_SECS}
  leaf_devices:
    identity: own
    devices:
      ${keys.join('\n      ')}
web: { address: ${ADDRESS}, port: ${webPort} }
`,
  });
  await daemon.ready();
  return { daemon, fieldPort };
}

/** Connects the devices; each sends once a second, all of them spread over it. */
async function startDevices(port: number): Promise<{ stop(): Promise<number> }> {
  const sockets: Duplex[] = [];
  for (let index = 0; index < DEVICES; index += 1) {
    sockets.push(await openClient({ host: ADDRESS, port }, `device-${index}`));
  }
  let answered = 0;
  let sent = 0;
  const timers = sockets.map((socket, index) => {
    const { packet, idAt, bodyAt } = publishPacket(index, BODY_BYTES);
    packet.writeUInt16BE(1, idAt);
    packet.writeUInt32BE(index, bodyAt);
    let number = 0;
    const send = (): void => {
      packet.writeUInt32BE(number, bodyAt + 4);
      packet.writeDoubleBE(performance.now(), bodyAt + 8);
      socket.write(Buffer.from(packet));
      number += 1;
      sent += 1;
    };
    // Only PUBACKs of four bytes come.
    socket.on('data', (bytes: Buffer) => (answered += bytes.length / 4));
    return setTimeout(
      () => {
        timers[index] = setInterval(send, 1000);
        send();
      },
      (index * 1000) / DEVICES,
    );
  });
  return {
    async stop() {
      for (const timer of timers) clearInterval(timer);
      await waitFor(() => answered === sent, { timeoutMs: 10_000, what: 'every message to be acknowledged' });
      for (const socket of sockets) socket.destroy();
      return sent;
    },
  };
}

/** When the session of each device at the hub began, as one text. */
async function sessionsOf(service: HubService): Promise<string> {
  const devices = JSON.parse((await service.read('/devices')).toString()) as {
    readonly deviceId: string;
    readonly connectionState: string;
    readonly connectionStateUpdatedTime: string;
  }[];
  return devices
    .map((device) => `${device.deviceId} ${device.connectionState} ${device.connectionStateUpdatedTime}`)
    .sort()
    .join('\n');
}

/**
 * The gateway's ends of its TCP connections to the hub. A bare connect carries nothing: beside a hub that answers nothing for two
 * seconds it asks whether anybody is there, and is closed at once.
 */
async function connectionsOf({ pid }: BenchDaemon, { address, amqpsPort }: HubTarget): Promise<string[]> {
  const lines = await runProgram('ss', ['-HtnpiO', 'state', 'established', 'dst', `${address}:${amqpsPort}`]);
  return lines
    .split('\n')
    .filter((line) => line.includes(`pid=${pid},`) && line.includes(' bytes_sent:'))
    .map((line) => line.trim().split(/\s+/)[2] ?? '');
}
