// What the unmodified SDK for Node sends to a hub, and what we send, field by field: the same message, methods, commands and twin,
// recorded on their way to the same hub. Where ours is another, the reason stands here.

import { expect, it } from 'vitest';
import { memoryStateStore } from '../support/state.ts';
import { HOST, HUB } from '../support/hub.ts';
import { HUB_HOST_NAME } from '../support/hub-daemon.ts';
import { HUB_DEVICE, iotHubRig, type IotHubRig } from '../support/iothub-upstream.ts';
import { amqpDigest, differences, mqttDigest, type Digest } from '../support/recording-digest.ts';
import { startDevice } from '../support/sdk-child.ts';
import { startTlsRecorder, type Recording } from '../support/tls-recorder.ts';
import { attachTwinsRig, METER } from '../support/twins-rig.ts';
import { GATEWAY_ID, stored } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.163.1';
const NEVER = new AbortController().signal;
/** The SDK knows no others. */
const PORTS = { amqp: 5671, mqtt: 8883 } as const;

type Protocol = keyof typeof PORTS;

const TELEMETRY = {
  body: '{"a":1}',
  properties: { 'a b': 'c/é&=' },
  system: {
    messageId: 'm-1',
    correlationId: 'c-1',
    userId: 'me',
    to: 'somewhere',
    contentType: 'application/json',
    contentEncoding: 'utf-8',
    expiryTimeUtc: '2036-01-02T03:04:05.678Z',
    creationTimeUtc: '2026-01-02T03:04:05.678Z',
    componentName: 'pump',
  },
} as const;

interface Service {
  /** Waits until methods can be called. */
  invoke(): Promise<void>;
  send(body: string, properties: Readonly<Record<string, string>>): Promise<void>;
  settled(): Promise<void>;
  desire(desired: object): Promise<void>;
  reported(): Promise<Record<string, unknown>>;
}

function serviceOf({ hub: { hub } }: IotHubRig): Service {
  const service = hub.hub;
  const id = { deviceId: HUB_DEVICE };
  return {
    async invoke() {
      const payload = Buffer.from('{}');
      const call = { name: 'ping', payload, responseTimeoutMs: 10_000, connectTimeoutMs: 0 };
      await waitFor(() =>
        service.methods.invoke(HUB, id, call).then(
          () => true,
          () => false,
        ),
      );
    },
    async send(body, properties) {
      await service.commands.send(HUB, id, { body: Buffer.from(body), properties, ack: 'none' });
    },
    async settled() {
      await expect
        .poll(async () => (await service.identities.device(HUB, HUB_DEVICE)).cloudToDeviceMessageCount)
        .toBe(0);
    },
    async desire(desired) {
      await service.twins.patch(HUB, id, { desired }, '*');
    },
    async reported() {
      return (JSON.parse(Buffer.from(await service.twins.own(HUB, id)).toString()) as never)['reported'];
    },
  };
}

const NO_COMMAND = 'no command';
const COMMAND = '{"values":{"relay":true}}';

async function theSdkSpeaks(rig: IotHubRig, over: Protocol, service: Service): Promise<void> {
  await using device = startDevice({ hub: { address: ADDRESS, authorityPath: rig.hub.caPath } });
  const connectionString = `HostName=${HOST};GatewayHostName=${HUB_HOST_NAME};DeviceId=${HUB_DEVICE};SharedAccessKey=${rig.keys.primary}`;
  await device.call('open', connectionString, over);
  // The SDK for AMQP takes a number alone.
  const expiryTimeUtc = over === 'amqp' ? Date.parse(TELEMETRY.system.expiryTimeUtc) : TELEMETRY.system.expiryTimeUtc;
  await device.call('send', { ...TELEMETRY, system: { ...TELEMETRY.system, expiryTimeUtc } });
  await device.call('onMethod', 'ping', { status: 200, payload: { gateway: GATEWAY_ID } });
  await service.invoke();
  await device.call('onCommands', 'none');
  for (const [body, how] of [
    [COMMAND, 'complete'],
    [NO_COMMAND, 'reject'],
  ] as const) {
    await service.send(body, { device_id: METER });
    await device.nextEvent('command', (command: { body: string }) => command.body === body);
    if (over === 'amqp' || how === 'complete') await device.call(how, body);
  }
  await service.settled();
  await device.call('getTwin');
  await device.call('onDesired');
  await service.desire({ sdk: 1 });
  await device.nextEvent('desired');
  await device.call('report', { sdk: 1 });
  await device.call('close');
}

async function weSpeak(rig: IotHubRig, over: Protocol, service: Service): Promise<void> {
  const transport = rig.transport({ port: PORTS[over] });
  const field = attachTwinsRig(transport, await memoryStateStore(), rig.clock);
  await transport.open(NEVER);
  const { messageId, expiryTimeUtc: absoluteExpiryTime, ...system } = TELEMETRY.system;
  const one = stored(TELEMETRY.body, 1, {
    deviceId: GATEWAY_ID,
    properties: TELEMETRY.properties,
    systemProperties: { messageId, absoluteExpiryTime, ...system },
  });
  expect(await transport.send([{ ...one, messageId }], NEVER)).toMatchObject([{ status: 'accepted' }]);
  await service.invoke();
  await service.send(COMMAND, { device_id: METER });
  await service.send(NO_COMMAND, { device_id: METER });
  await service.settled();
  await service.desire({ devices: { [METER]: { level: 40 } } });
  await expect.poll(() => service.reported()).toMatchObject({ devices: { [METER]: { level: 40 } } });
  field.twins?.stop();
  await transport.close();
}

async function recorded(over: Protocol): Promise<{ readonly theirs: Recording; readonly ours: Recording }> {
  await using rig = await iotHubRig(ADDRESS, over);
  // The SDK's tokens are by the clock of the system.
  rig.hub.clock.step(Date.now() - rig.hub.clock.wallMs());
  const pair = await rig.hub.authority.issue({ name: `recorder-${over}`, hosts: [ADDRESS, HUB_HOST_NAME] });
  const port = over === 'amqp' ? rig.hub.amqpPort : rig.hub.port;
  const target = { host: ADDRESS, port, ca: rig.hub.authority.certificate };
  await using recorder = await startTlsRecorder({ address: ADDRESS, port: PORTS[over], pair, target });
  const service = serviceOf(rig);
  await theSdkSpeaks(rig, over, service);
  await weSpeak(rig, over, service);
  const [theirs, ours, ...others] = recorder.recordings;
  if (theirs === undefined || ours === undefined) throw new Error('Nothing was recorded.');
  expect(others).toEqual([]);
  return { theirs, ours };
}

/** Differences that have a reason, as `path: theirs → ours`. */
type Reasons = readonly (readonly [difference: RegExp, because: string])[];

const OURS_MORE: Reasons = [
  [/fieldpost-id: absent → .*abcd\.gateway-1\.1$/, 'by it duplicates of a message with an id of its own are told'],
];

const AMQP: Reasons = [
  ...OURS_MORE,
  [/^open\.hostname: string hub\.fieldpost\.test → string 127\.0\.163\.1$/, 'each says whom it dialled'],
  [/^open\.max-frame-size: absent → uint 65536$/, 'what the hub may send at once is bounded here'],
  [/^open\.channel-max: absent → ushort 65535$/, 'the library’s number for any'],
  [/^open\.idle-time-out: absent → uint 30000$/, 'a hub that is gone without a word is noticed'],
  [/^sessions: 1 → 3$/, 'what is refused to one identity, or its telemetry, ends no other link'],
  [/^end: detach,end,close → close$/, 'a CLOSE ends all links (AMQP 1.0, 2.4.3)'],
  [/client-version: string azure-iot-device.* → string fieldpost$/, 'each says who it is'],
  [/api-version: string 2021-04-12 → string 2020-09-30$/, 'the SDKs for C, C# and Java say that one'],
  [
    /messages\/devicebound\.properties\.symbol com\.microsoft:channel-correlation-id: .* → absent$/,
    'the link has no pair',
  ],
  [/\.(snd|rcv)-settle-mode: absent → ubyte 0$/, 'unsettled, as is meant; the SDK for C says so too'],
  [/\/twin\.snd-settle-mode: ubyte 1 → ubyte 0$/, 'as the SDK for C: the settlement gives the room for the next'],
  [/^message to \S*\/twin string PATCH\.data: /, 'each reports what it has'],
  [/^message to \S*\/twin string (GET|PUT|PATCH)\.settled: boolean true → boolean false$/, 'the same'],
  [
    /^message to \S*\/twin .*correlation-id: string <uuid> → string \d+$/,
    'of a session; counted, as the SDK for C does',
  ],
  [/^sender \S+\.source\.outcomes: absent → .*modified/, 'all that is understood (3.5.3)'],
  [/link-credit: uint 1000 → uint (8|16|128)$/, 'as many as are carried out at once; the hub keeps the others'],
  [/\/messages\/events\.properties\.to: string \S+\/events → string somewhere$/, 'the SDK loses what the message says'],
  [/\/messages\/events\.properties\.user-id: absent → binary me$/, 'the SDK loses it'],
  [/\/messages\/events\.message-annotations\.symbol dt-subject: absent → string pump$/, 'the SDK has no such field'],
  [/iothub-creation-time-utc: absent → string 2026-01-02T03:04:05\.678Z$/, 'the SDK has no such field'],
  [/^outcomes \S+\/messages\/devicebound: .*"rejected":\{\}.* → .*amqp:not-allowed/, 'a refusal says why'],
];

const MQTT: Reasons = [
  ...OURS_MORE,
  [/^connect\.clean: false → true$/, 'all is subscribed anew; commands wait at the hub all the same'],
  [/^connect\.keepalive: 180 → 30$/, 'a hub that is gone without a word is noticed'],
  [/DeviceClientType: azure-iot-device.* → fieldpost$/, 'each says who it is'],
  [/%24\.ctime: absent → %24\.ctime=2026-01-02T03%3A04%3A05\.678Z$/, 'the SDK has no such field'],
  [/%24\.sub: absent → %24\.sub=pump$/, 'the SDK has no such field'],
];

/** Every difference has a reason, and every reason a difference. */
function compare(theirs: Digest, ours: Digest, reasons: Reasons): void {
  const found = differences(theirs, ours);
  expect(found.filter((text) => !reasons.some(([pattern]) => pattern.test(text)))).toEqual([]);
  expect(reasons.filter(([pattern]) => !found.some((text) => pattern.test(text)))).toEqual([]);
}

it('says over AMQP what the SDK says: links, tokens, properties, answers and settlements', async () => {
  const { theirs, ours } = await recorded('amqp');
  const digests = [theirs, ours].map(({ up, down }) => amqpDigest(up(), down())) as [Digest, Digest];
  compare(...digests, AMQP);
  // What is the same is there: a recording of nothing would be the same as well.
  const sas = `string SharedAccessSignature sr=${HOST}%2Fdevices%2F${HUB_DEVICE}&sig=<signature>&se=<time>`;
  for (const digest of digests) {
    expect(digest).toMatchObject({
      headers: '0.1.0.0',
      'message to $cbs.value': sas,
      'message to $cbs.properties.message-id': 'string <uuid>',
      'message to $cbs.application-properties.string name': `string ${HOST}%2Fdevices%2F${HUB_DEVICE}`,
      [`message to /devices/${HUB_DEVICE}/messages/events.application-properties.string a b`]: 'string c/é&=',
      [`message to /devices/${HUB_DEVICE}/methods/devicebound.application-properties.string IoThub-status`]: 'int 200',
      [`message to /devices/${HUB_DEVICE}/methods/devicebound.properties.correlation-id`]: 'uuid',
      [`message to /devices/${HUB_DEVICE}/twin string PATCH.message-annotations.symbol resource`]:
        'string /properties/reported',
    });
  }
});

it('says over MQTT what the SDK says: login, subscriptions, topics, and bags of properties', async () => {
  const { theirs, ours } = await recorded('mqtt');
  const digests = [theirs, ours].map(({ up }) => mqttDigest(up())) as [Digest, Digest];
  compare(...digests, MQTT);
  for (const digest of digests) {
    expect(digest).toMatchObject({
      'connect.client-id': HUB_DEVICE,
      'connect.user-name': `${HOST}/${HUB_DEVICE}/`,
      'connect.user-name.api-version': '2021-04-12',
      [`subscribe devices/${HUB_DEVICE}/messages/devicebound/#`]: 'qos 1',
      'subscribe $iothub/twin/res/#': 'qos 0',
      [`publish devices/${HUB_DEVICE}/messages/events/`]: 'qos 1',
      [`publish devices/${HUB_DEVICE}/messages/events/ a%20b`]: 'a%20b=c%2F%C3%A9%26%3D',
      'publish $iothub/twin/GET/?$rid=<id>': 'qos 0',
      'publish $iothub/twin/PATCH/properties/reported/?$rid=<id>': 'qos 0',
      acknowledged: '2',
      end: 'disconnect',
    });
  }
});
