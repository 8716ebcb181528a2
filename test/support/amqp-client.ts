// A client of AMQP on the `rhea` library, for what the SDKs never send: links, messages and settlements one by one.

import { createHmac, randomUUID } from 'node:crypto';
import rhea, {
  type Connection,
  type Delivery,
  type EventContext,
  type Message,
  type Receiver,
  type Sender,
} from 'rhea';
import { waitFor } from './wait.ts';

/** Condition and text of an error as it came. */
export interface Refusal {
  readonly condition: string;
  readonly description: string;
  readonly info: Readonly<Record<string, unknown>>;
}

export interface Outcome {
  readonly outcome: 'accepted' | 'rejected' | 'released' | 'modified';
  readonly error: Refusal | undefined;
}

export interface TestSender {
  readonly link: Sender;
  /** Sends when there is credit, resolves with what becomes of it. @param format as of a batch: `message` is bytes. */
  send(message: Message | Buffer, format?: number): Promise<Outcome>;
  readonly closed: Promise<Refusal | undefined>;
}

export interface Received {
  readonly message: Message;
  readonly delivery: Delivery;
}

export interface TestReceiver {
  readonly link: Receiver;
  readonly received: Received[];
  /** The one at `index`, once it is there. */
  at(index: number): Promise<Received>;
  readonly closed: Promise<Refusal | undefined>;
}

export interface TestConnection extends Disposable {
  readonly connection: Connection;
  /** With an error, or without one. */
  readonly closed: Promise<Refusal | undefined>;
  sender(address: string, options?: object): Promise<TestSender>;
  receiver(address: string, options?: object): Promise<TestReceiver>;
  /** The links to `$cbs`, once a token was put. */
  readonly cbs: { readonly requests: TestSender; readonly answers: TestReceiver } | undefined;
  /** Puts a token; resolves with the status of the answer. */
  putToken(audience: string, token: string): Promise<number>;
}

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  readonly hostName: string;
  readonly options?: object;
}

export async function connectAmqp({ host, port, hostName, options }: ConnectOptions): Promise<TestConnection> {
  const container = rhea.create_container({ id: `test-${randomUUID()}` });
  const connection = container.connect({ host, port, hostname: hostName, reconnect: false, ...options });
  const closed = new Promise<Refusal | undefined>((resolve) => {
    connection.on('connection_error', ({ connection: ended }: EventContext) => resolve(refusalOf(ended.error)));
    connection.on('connection_close', ({ connection: ended }: EventContext) => resolve(refusalOf(ended.error)));
    connection.on('disconnected', () => resolve(undefined));
  });
  container.on('error', () => {});
  await new Promise<void>((resolve, reject) => {
    connection.once('connection_open', () => resolve());
    connection.once('disconnected', ({ error }: EventContext) => reject(new Error(`disconnected: ${String(error)}`)));
  });

  async function sender(address: string, more: object = {}): Promise<TestSender> {
    const link = connection.open_sender({ target: { address }, autosettle: true, ...more });
    const pending = new Map<unknown, (outcome: Outcome) => void>();
    for (const outcome of ['accepted', 'rejected', 'released', 'modified'] as const) {
      link.on(outcome, ({ delivery }: EventContext) => {
        const state = delivery?.remote_state as { error?: unknown } | undefined;
        pending.get(delivery)?.({ outcome, error: refusalOf(state?.error) });
      });
    }
    const closing = linkClosed(link, 'sender');
    await opened(link, 'sender');
    return {
      link,
      closed: closing,
      async send(message, format) {
        await waitFor(() => link.sendable() || !link.is_open(), { what: `credit on ${address}` });
        return new Promise((resolve) => {
          const delivery = link.send(message, undefined, format);
          pending.set(delivery, resolve);
        });
      },
    };
  }

  async function receiver(address: string, more: object = {}): Promise<TestReceiver> {
    const link = connection.open_receiver({ source: { address }, ...more });
    const received: Received[] = [];
    link.on('message', ({ message, delivery }: EventContext) => {
      if (message !== undefined && delivery !== undefined) received.push({ message, delivery });
    });
    const closing = linkClosed(link, 'receiver');
    await opened(link, 'receiver');
    return {
      link,
      received,
      closed: closing,
      at: (index) => waitFor(() => received[index], { what: `message ${index} of ${address}` }),
    };
  }

  let cbs: { readonly requests: TestSender; readonly answers: TestReceiver } | undefined;

  return {
    connection,
    closed,
    sender,
    receiver,
    get cbs() {
      return cbs;
    },
    async putToken(audience, token) {
      cbs ??= { requests: await sender('$cbs'), answers: await receiver('$cbs') };
      const { requests, answers } = cbs;
      const id = randomUUID();
      await requests.send({
        message_id: id,
        reply_to: 'cbs',
        application_properties: { operation: 'put-token', type: 'servicebus.windows.net:sastoken', name: audience },
        body: token,
      });
      const answer = await waitFor(
        () => answers.received.find(({ message }) => (message['correlation_id'] as unknown) === id),
        { what: 'the answer of $cbs' },
      );
      return (answer.message['application_properties'] as { 'status-code': number })['status-code'];
    },
    [Symbol.dispose]() {
      connection.close();
      setImmediate(() => (connection as unknown as { socket?: { destroy(): void } }).socket?.destroy());
    },
  };
}

/** A token as an SDK of IoT Hub makes it. */
export function sasToken(resource: string, key: string, lifeSecs: number, policy?: string): string {
  const expiry = Math.floor(Date.now() / 1000) + lifeSecs;
  const audience = encodeURIComponent(resource);
  const signature = createHmac('sha256', Buffer.from(key, 'base64')).update(`${audience}\n${expiry}`).digest('base64');
  const name = policy === undefined ? '' : `&skn=${policy}`;
  return `SharedAccessSignature sr=${audience}&sig=${encodeURIComponent(signature)}&se=${expiry}${name}`;
}

function opened(link: Sender | Receiver, role: 'sender' | 'receiver'): Promise<void> {
  return new Promise((resolve) => link.once(`${role}_open` as never, () => resolve()));
}

function linkClosed(link: Sender | Receiver, role: 'sender' | 'receiver'): Promise<Refusal | undefined> {
  return new Promise((resolve) => {
    link.on(`${role}_error` as never, () => {});
    link.on(`${role}_close` as never, () => resolve(refusalOf(link.error)));
  });
}

function refusalOf(error: unknown): Refusal | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const { condition, description, info } = error as Partial<Refusal>;
  return { condition: condition ?? '', description: description ?? '', info: info ?? {} };
}
