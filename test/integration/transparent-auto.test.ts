// A transparent gateway with `protocol: auto`: whatever way to the cloud is left, devices on unmodified SDKs are the same there, and
// reached.

import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTcpProxy, type TcpProxy } from '../sim/tcp-proxy.ts';
import { createAuthority, type KeyPair } from '../support/certificates.ts';
import { AMQPS_PORT, HTTPS_PORT, HUB_HOST_NAME, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { startTlsRecorder, type TlsRecorder } from '../support/tls-recorder.ts';
import { derivedKey, GATEWAY_ID, GATEWAY_KEY, GROUP_KEY, transparentGateway } from '../support/transparent-rig.ts';
import { waitFor } from '../support/wait.ts';

const CLOUD = '127.0.161.1';
const EDGE = '127.0.161.2';
/** Where its back ends reach the cloud, whatever stands there. */
const BACK = '127.0.161.3';
/** Where the cloud is behind what stands at its ports. */
const HIDDEN = { amqps: 5673, https: 4443 };
const DEVICES = { mqtt: 'leaf-1', amqp: 'leaf-2' } as const;
const REBOOT = { methodName: 'reboot', payload: null, responseTimeoutInSeconds: 10, connectTimeoutInSeconds: 20 };

const stack = new AsyncDisposableStack();
let cloud: HubDaemon;
let edge: HubDaemon;
let pair: KeyPair;
let amqps: TcpProxy;
let web: TlsRecorder;
let backEnd: SdkChild;

/** @param takesAmqp whether the box lets it through. */
const startBox = (takesAmqp: boolean): Promise<TlsRecorder> =>
  startTlsRecorder({
    address: CLOUD,
    port: HTTPS_PORT,
    pair,
    target: { host: CLOUD, port: HIDDEN.https, ca: cloud.authority },
    admits: (head) => takesAmqp || !head.includes('AMQPWSB10'),
  });

beforeAll(async () => {
  const directory = (name: string) => stack.use(createTempDir(name));
  cloud = stack.use(
    await startHubDaemon({
      address: CLOUD,
      directory: directory('auto-cloud'),
      hub: { https_port: HIDDEN.https, amqps_port: HIDDEN.amqps },
      ports: [HIDDEN.https, HIDDEN.amqps],
    }),
  );
  for (const [port, target] of [
    [HTTPS_PORT, HIDDEN.https],
    [AMQPS_PORT, HIDDEN.amqps],
  ] as const) {
    stack.use(await startTcpProxy({ target: { host: CLOUD, port: target }, address: BACK, port }));
  }
  backEnd = stack.use(startBackEnd({ hub: { address: BACK, authorityPath: cloud.authorityPath } }));
  await backEnd.call('openRegistry', cloud.owner);
  for (const [deviceId, primaryKey] of [
    [GATEWAY_ID, GATEWAY_KEY] as const,
    ...Object.values(DEVICES).map((id) => [id, derivedKey(id)] as const),
  ]) {
    const authentication = { symmetricKey: { primaryKey, secondaryKey: primaryKey } };
    await backEnd.call('registry', 'create', { deviceId, authentication });
  }
  await backEnd.call('openClient', cloud.owner);
  await backEnd.call('readEvents', { connectionString: cloud.events });
  const authority = await createAuthority(directory('auto-box').path);
  pair = await authority.issue({ name: 'box', hosts: [CLOUD, HUB_HOST_NAME] });
  amqps = stack.use(
    await startTcpProxy({ target: { host: CLOUD, port: HIDDEN.amqps }, address: CLOUD, port: AMQPS_PORT }),
  );
  web = await startBox(true);
  stack.defer(() => web[Symbol.asyncDispose]());
  edge = stack.use(
    await startHubDaemon(
      transparentGateway({
        address: EDGE,
        directory: directory('auto-edge'),
        dials: CLOUD,
        ca: `${cloud.authority}\n${authority.certificate}`,
        upstream: {
          protocol: 'auto',
          connect_timeout_ms: 2000,
          leaf_devices: { identity: 'group_key', group_key: GROUP_KEY, per_device: true },
        },
      }),
    ),
  );
});

afterAll(() => stack.disposeAsync());

async function open(deviceId: string, transport: string): Promise<SdkChild> {
  const child = stack.use(startDevice({ hub: { address: CLOUD, authorityPath: edge.authorityPath } }));
  const gateway = `HostName=${HUB_HOST_NAME};GatewayHostName=${EDGE}`;
  await child.call('open', `${gateway};DeviceId=${deviceId};SharedAccessKey=${derivedKey(deviceId)}`, transport);
  await child.call('onMethod', 'reboot', { status: 200, payload: deviceId });
  await child.call('onCommands', 'complete');
  return child;
}

it('keeps every device what it is in the cloud, and in reach, over whatever goes through', async () => {
  const devices = await Promise.all(
    Object.entries(DEVICES).map(async ([transport, deviceId]) => [deviceId, await open(deviceId, transport)] as const),
  );
  /** Both ways, in the device's own name. */
  const works = async (body: string): Promise<void> => {
    for (const [deviceId, child] of devices) {
      await child.call('send', { body: `${body} ${deviceId}` });
      await backEnd.call('sendCommand', deviceId, { body: `${body} for ${deviceId}` });
    }
    for (const [deviceId, child] of devices) {
      const event = await backEnd.nextEvent<Event>('event', (one) => one.body === `${body} ${deviceId}`);
      expect(event.systemProperties['iothub-connection-device-id']).toBe(deviceId);
      expect(await child.nextEvent('command')).toMatchObject({ body: `${body} for ${deviceId}` });
      expect(await backEnd.call('invoke', deviceId, REBOOT)).toEqual({ status: 200, payload: deviceId });
    }
  };
  const says = (protocol: string): Promise<boolean> =>
    waitFor(() => edge.log().includes(`"Connected over ${protocol}.`), { timeoutMs: 20_000, what: protocol });

  await works('amqp');
  expect(amqps.connections).toBe(1);

  await amqps.refuse();
  await says('amqp_ws');
  await works('amqp_ws');

  await web[Symbol.asyncDispose]();
  web = await startBox(false);
  await says('mqtt_ws');
  await works('mqtt_ws');

  await amqps.listen();
  await web[Symbol.asyncDispose]();
  await works('amqp again');
  expect(amqps.connections).toBe(1);
});

interface Event {
  readonly body: unknown;
  readonly systemProperties: Readonly<Record<string, unknown>>;
}
