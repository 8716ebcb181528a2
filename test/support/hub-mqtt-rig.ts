// The MQTT and AMQP heads over real doors with TLS, before a hub in memory: what devices send is kept for the test, and each commit can be
// held back or made to fail.

import { once } from 'node:events';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import { createAmqpHead } from '../../modules/hub-amqp/head.ts';
import { createMqttHead } from '../../modules/hub-mqtt/head.ts';
import type { Clock } from '../../src/core/clock.ts';
import type { IdentityRef } from '../../src/core/hub/identity.ts';
import type { Message } from '../../src/core/message.ts';
import { createTelemetryIntake } from '../../src/hub/telemetry-intake.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { createHubDoors } from '../../src/wire/hub-listeners.ts';
import { createAuthority, type Authority, type KeyPair } from './certificates.ts';
import { HOST, HUB, hubInfo, hubRig, type HubRig } from './hub.ts';
import { ManualClock } from './manual-clock.ts';
import { createTempDir } from './temp-dir.ts';
import { waitFor } from './wait.ts';

const ADDRESS = '127.0.101.1';

export interface HubMqttRig extends AsyncDisposable {
  readonly hub: HubRig;
  readonly clock: ManualClock;
  readonly port: number;
  readonly amqpPort: number;
  readonly webSocketPort: number;
  readonly address: string;
  readonly authority: Authority;
  readonly caPath: string;
  /** Messages that were stored. */
  readonly stored: Message[];
  /** Why clients were refused or cut off, and how often. */
  readonly refused: string[];
  /** Runs before each commit; a rejection is the store's. */
  beforeCommit: (messages: readonly Message[]) => Promise<void>;
  /** Creates the device, or the module and its device. */
  create(ref: IdentityRef): Promise<void>;
  /** A client with what the SDKs send, changed by `options`. */
  connect(ref: IdentityRef, options?: IClientOptions): Promise<MqttClient>;
  optionsOf(ref: IdentityRef, options?: IClientOptions): Promise<IClientOptions>;
  /** A bare connection. */
  socket(): Promise<TLSSocket>;
  stop(signal: AbortSignal): Promise<void>;
}

export interface HubMqttRigOptions {
  /** In 127.0.0.0/8; one for all rigs of a file. */
  readonly address?: string;
  readonly faultInjection?: boolean;
}

interface Pki {
  readonly authority: Authority;
  readonly server: KeyPair;
}

let pki: Promise<Pki> | undefined;

/** The same for all tests of a file: OpenSSL is slow to start. */
async function createPki(address: string): Promise<Pki> {
  const directory = createTempDir('hub-mqtt');
  process.once('exit', () => directory.remove());
  const authority = await createAuthority(directory.path);
  return { authority, server: await authority.issue({ name: 'server', hosts: [address] }) };
}

export async function hubMqttRig({
  faultInjection = false,
  address = ADDRESS,
}: HubMqttRigOptions = {}): Promise<HubMqttRig> {
  pki ??= createPki(address);
  const { authority, server } = await pki;
  const clock = new ManualClock();
  const stored: Message[] = [];
  const refused: string[] = [];
  const intake = createTelemetryIntake({
    ingress: {
      async messages(messages) {
        await rig.beforeCommit(messages);
        stored.push(...messages);
      },
    },
    identities: {
      device: (...args) => hub.hub.identities.device(...args),
      module: (...args) => hub.hub.identities.module(...args),
    },
    clock,
  });
  const hub = await hubRig({ clock, telemetryIntake: intake, hubs: [{ info: { ...hubInfo, faultInjection } }] });
  const systemClock: Clock = new SystemClock();
  const log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
  const doors = createHubDoors({
    address,
    ports: { mqtts: 0, amqps: 0, https: 0 },
    certificates: [server],
    maxHandshakesPerSec: 1000,
    clock: systemClock,
    log,
    reportRefusal: (reason) => void refused.push(reason),
  });
  const head = createMqttHead({
    hub: hub.hub,
    doors,
    clock,
    log,
    reportRefusal: (reason) => void refused.push(reason),
  });
  hub.hub.attachHead('mqtt', (items) => head.deliver(items));
  const amqpHead = createAmqpHead({
    hub: hub.hub,
    doors,
    clock,
    log,
    reportRefusal: (reason) => void refused.push(reason),
  });
  hub.hub.attachHead('amqp', (items) => amqpHead.deliver(items));
  await head.start(new AbortController().signal);
  await amqpHead.start(new AbortController().signal);
  const clients: MqttClient[] = [];
  const sockets: TLSSocket[] = [];
  const port = doors.addressOf('mqtts')?.port ?? 0;

  const optionsOf = async (ref: IdentityRef, options: IClientOptions = {}): Promise<IClientOptions> => {
    const { deviceId, moduleId } = ref;
    const path = moduleId === undefined ? deviceId : `${deviceId}/${moduleId}`;
    return {
      host: address,
      port,
      protocol: 'mqtts',
      ca: authority.certificate,
      clientId: path,
      username: `${HOST}/${path}/?api-version=2021-04-12&DeviceClientType=test%2F1`,
      ...(!('password' in options) && { password: await hub.token(ref) }),
      clean: false,
      reconnectPeriod: 0,
      resubscribe: false,
      ...options,
    };
  };

  const rig: HubMqttRig = {
    hub,
    clock,
    port,
    amqpPort: doors.addressOf('amqps')?.port ?? 0,
    webSocketPort: doors.addressOf('https')?.port ?? 0,
    address,
    authority,
    caPath: authority.certificatePath,
    stored,
    refused,
    beforeCommit: () => Promise.resolve(),
    async create({ deviceId, moduleId }) {
      const exists = await hub.hub.identities.device(HUB, deviceId).then(
        () => true,
        () => false,
      );
      if (!exists) await hub.hub.identities.putDevice(HUB, { deviceId }, undefined);
      if (moduleId !== undefined) await hub.hub.identities.putModule(HUB, { deviceId, moduleId }, undefined);
    },
    async connect(ref, options) {
      const client = await connectAsync(await optionsOf(ref, options));
      client.on('error', () => {});
      clients.push(client);
      return client;
    },
    optionsOf,
    async socket() {
      const socket = connectTls({ host: address, port, ca: authority.certificate });
      socket.on('error', () => {});
      sockets.push(socket);
      await once(socket, 'secureConnect');
      return socket;
    },
    stop: async (signal) => {
      await Promise.all([head.stop(signal), amqpHead.stop(signal)]);
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.end(true);
      for (const socket of sockets) socket.destroy();
      await rig.stop(AbortSignal.abort());
      await doors.stopAccepting();
      await doors.close();
      await hub.hub.stop();
    },
  };
  return rig;
}

/** Messages that a client receives from now on, as topics and texts. */
export function received(client: MqttClient): { topic: string; body: string; qos: number; dup: boolean }[] {
  const messages: { topic: string; body: string; qos: number; dup: boolean }[] = [];
  client.on(
    'message',
    (topic, payload, { qos, dup }) => void messages.push({ topic, body: payload.toString(), qos, dup }),
  );
  return messages;
}

/** Waits for the end of a client's connection. */
export async function closed(client: MqttClient): Promise<void> {
  await waitFor(() => !client.connected, { what: 'the end of the connection' });
}
