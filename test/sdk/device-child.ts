// A device or module on the unmodified SDK, over the transport that the test names.

import { readFileSync } from 'node:fs';
import deviceSdk from 'azure-iot-device';
import amqpTransport from 'azure-iot-device-amqp';
import httpTransport from 'azure-iot-device-http';
import mqttTransport from 'azure-iot-device-mqtt';
import { errorOf, serveCalls, tell, textOf } from './calls.ts';

const { Client, Message, ModuleClient } = deviceSdk;

const TRANSPORTS = {
  mqtt: mqttTransport.Mqtt,
  'mqtt-ws': mqttTransport.MqttWs,
  amqp: amqpTransport.Amqp,
  'amqp-ws': amqpTransport.AmqpWs,
  http: httpTransport.Http,
} as const;

export type DeviceTransport = keyof typeof TRANSPORTS;

/** Telemetry as a test writes it. */
export interface SentMessage {
  readonly body: string;
  /** Application properties. */
  readonly properties?: Readonly<Record<string, string>>;
  /** Fields of the SDK's message: `messageId`, `contentType`, … */
  readonly system?: Readonly<Record<string, string>>;
}

type DeviceClient = InstanceType<typeof Client>;
type AnyClient = DeviceClient | InstanceType<typeof ModuleClient>;
type MethodListener = Parameters<DeviceClient['onDeviceMethod']>[1];
type SdkMessage = InstanceType<typeof Message>;
type SdkTwin = Awaited<ReturnType<AnyClient['getTwin']>>;

interface ReportedProperties {
  update(patch: object, done: (error: Error | null) => void): void;
}

let client: AnyClient | undefined;
let twin: SdkTwin | undefined;
const commands = new Map<string, SdkMessage>();

function opened(): AnyClient {
  if (client === undefined) throw new Error('The client is not open.');
  return client;
}

function device(): DeviceClient {
  return opened() as DeviceClient;
}

function knownTwin(): SdkTwin {
  if (twin === undefined) throw new Error('The twin has not been fetched.');
  return twin;
}

function messageOf({ body, properties = {}, system = {} }: SentMessage): SdkMessage {
  const message = new Message(body);
  for (const [name, value] of Object.entries(properties)) message.properties.add(name, value);
  return Object.assign(message, system);
}

function told(message: SdkMessage): object {
  const { messageId, correlationId, userId, to, contentType, contentEncoding, lockToken, ack, expiryTimeUtc } = message;
  return {
    body: textOf(message),
    properties: Object.fromEntries(message.properties.propertyList.map(({ key, value }) => [key, value])),
    messageId,
    correlationId,
    userId,
    to,
    contentType,
    contentEncoding,
    lockToken,
    ack,
    expiryTimeUtc: expiryTimeUtc as unknown,
  };
}

async function settle(how: 'complete' | 'reject' | 'abandon', body: string): Promise<void> {
  const message = commands.get(body);
  if (message === undefined) throw new Error(`No command "${body}" has come.`);
  await device()[how](message);
}

serveCalls({
  /** @param proof paths of a client's certificate and key, where the connection string says `x509=true`. */
  async open(connectionString: string, transport: DeviceTransport, proof?: { cert: string; key: string }) {
    const constructor = TRANSPORTS[transport];
    const isModule = /;ModuleId=/i.test(connectionString);
    const made: AnyClient = isModule
      ? ModuleClient.fromConnectionString(connectionString, constructor)
      : Client.fromConnectionString(connectionString, constructor);
    client = made;
    made.on('connect', () => tell('connect', null));
    made.on('disconnect', (reason: unknown) => tell('disconnect', reason === undefined ? null : errorOf(reason)));
    made.on('error', (error: unknown) => tell('error', errorOf(error)));
    if (proof !== undefined) {
      // Over HTTP the SDK calls back for options of the receiver only.
      const receiver = transport === 'http' ? { interval: 1 } : {};
      const pair = { cert: readFileSync(proof.cert, 'utf8'), key: readFileSync(proof.key, 'utf8') };
      await made.setOptions({ ...pair, ...receiver });
    }
    await made.open();
  },
  close: async () => void (await opened().close()),
  /** The same client, with what listens on it: a message of a kept session may come before anything else is asked for. */
  reopen: async () => void (await opened().open()),
  /** Gives up at the first failure, instead of the SDK's four minutes of attempts. */
  neverRetry: () => opened().setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => 0 }),
  setOptions: async (options: object) => void (await opened().setOptions(options)),
  send: async (message: SentMessage) => void (await opened().sendEvent(messageOf(message))),
  sendBatch: async (messages: readonly SentMessage[]) => void (await opened().sendEventBatch(messages.map(messageOf))),
  sendOutput: async (output: string, message: SentMessage) =>
    void (await (opened() as InstanceType<typeof ModuleClient>).sendOutputEvent(output, messageOf(message))),
  /** Tells each command as `command`. @param settling how; `none`: the test settles it by `complete`, `reject` or `abandon`. */
  onCommands(settling: 'complete' | 'reject' | 'abandon' | 'none') {
    device().on('message', (message: SdkMessage) => {
      commands.set(textOf(message), message);
      tell('command', told(message));
      if (settling !== 'none') {
        settle(settling, textOf(message)).then(
          () => tell('settled', textOf(message)),
          (error: unknown) => tell('error', errorOf(error)),
        );
      }
    });
  },
  complete: (body: string) => settle('complete', body),
  reject: (body: string) => settle('reject', body),
  abandon: (body: string) => settle('abandon', body),
  /** Tells messages to a module as `input`. */
  onInputs() {
    opened().on('inputMessage', (input: string, message: SdkMessage) => tell('input', { input, ...told(message) }));
  },
  /** Answers a method; tells each call as `method`. An absent `status` never answers. */
  onMethod(name: string, answer: { status?: number; payload?: unknown }) {
    const listener = (request?: Parameters<MethodListener>[0], response?: Parameters<MethodListener>[1]): void => {
      tell('method', { name, payload: request?.payload as unknown });
      if (answer.status === undefined) return;
      response?.send(answer.status, answer.payload).catch((error: unknown) => tell('error', errorOf(error)));
    };
    const asked = opened();
    if ('onMethod' in asked) asked.onMethod(name, listener);
    else asked.onDeviceMethod(name, listener);
  },
  async getTwin() {
    twin = await opened().getTwin();
    return { desired: twin.properties.desired as unknown, reported: twin.properties.reported as unknown };
  },
  /** Tells each change as `desired`. */
  onDesired() {
    knownTwin().on('properties.desired', (delta: unknown) => tell('desired', delta));
  },
  report: (patch: object) =>
    new Promise<void>((resolve, reject) => {
      (knownTwin().properties.reported as ReportedProperties).update(patch, (error: Error | null) =>
        error ? reject(error) : resolve(),
      );
    }),
});
