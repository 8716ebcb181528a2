// What a hub or a broker costs at least: a bare rhea that takes every token and every message and keeps none. Arguments: its address, its port
// (0: any) and paths of its certificate and key. Reports its port. Told `{ tally: true }` it reports what has come so far, told
// `{ marker }` each message from then on that holds these bytes.

import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import rhea, { type Connection, type EventContext, type Message, type Sender } from 'rhea';
import { onCommand, report } from '../support/child.ts';
import type { HubSeen, HubTally } from './iothub-stub.ts';

const CBS = '$cbs';
/** Of a data section (OASIS AMQP 1.0, 3.2.6 and 1.6.19): its descriptor, then one or four bytes of size. */
const DESCRIPTOR_BYTES = 3;
const BINARY_8 = 0xa0;

const [address = '127.0.0.1', port = '0', certificate = '', key = ''] = process.argv.slice(2);
const answers = new Map<Connection, Sender>();
const tally: { -readonly [Field in keyof HubTally]: HubTally[Field] } = {
  connections: 0,
  tokens: 0,
  messages: 0,
  transfers: 0,
};
let marker: string | undefined;

/** The messages in the data sections of a batch. */
function membersOf(batch: Buffer): Buffer[] {
  const members: Buffer[] = [];
  for (let at = 0; at < batch.length;) {
    const sizeAt = at + DESCRIPTOR_BYTES + 1;
    const isShort = batch[sizeAt - 1] === BINARY_8;
    const start = sizeAt + (isShort ? 1 : 4);
    at = start + (isShort ? batch.readUInt8(sizeAt) : batch.readUInt32BE(sizeAt));
    members.push(batch.subarray(start, at));
  }
  return members;
}

function tell(message: object): void {
  const { content } = (message as { readonly body: { readonly content: Buffer } }).body;
  if (!content.includes(marker ?? '')) return;
  const seen: HubSeen = { body: content.toString('base64'), atMs: performance.timeOrigin + performance.now() };
  report(seen);
}

function take(message: Message | Buffer): void {
  const batch = Buffer.isBuffer(message) ? message : undefined;
  const members = batch === undefined ? undefined : membersOf(batch);
  tally.transfers += 1;
  tally.messages += members?.length ?? 1;
  if (marker === undefined || batch?.includes(marker) === false) return;
  if (members === undefined) tell(message);
  else for (const member of members) if (member.includes(marker)) tell(rhea.message.decode(member));
}

function answerToken(connection: Connection, { message_id: id }: Message): void {
  tally.tokens += 1;
  answers.get(connection)?.send({
    ...(id !== undefined && { correlation_id: id }),
    application_properties: { 'status-code': rhea.types.wrap_int(200), 'status-description': 'OK' },
    body: undefined,
  });
}

const container = rhea.create_container({ max_frame_size: 65_536, ...({ tcp_no_delay: true } as object) });
container.sasl_server_mechanisms.enable_anonymous();
container.on('error', () => {});
container.on('disconnected', ({ connection }: EventContext) => answers.delete(connection));
container.on('connection_open', () => (tally.connections += 1));
container.on('sender_open', ({ connection, sender }: EventContext) => {
  if (sender === undefined) return;
  sender.set_source(sender.source);
  sender.set_target(sender.target);
  if (sender.source.address === CBS) answers.set(connection, sender);
});
container.on('receiver_open', ({ receiver }: EventContext) => receiver?.set_target(receiver.target));
container.on('message', ({ connection, message, receiver }: EventContext) => {
  if (message === undefined) return;
  if (receiver?.target.address === CBS) answerToken(connection, message);
  else take(message);
});

onCommand((command) => {
  const { marker: wanted } = command as { readonly marker?: string };
  if (wanted === undefined) report(tally);
  else marker = wanted;
});
const server = container.listen({
  transport: 'tls',
  host: address,
  port: Number(port),
  cert: readFileSync(certificate),
  key: readFileSync(key),
});
server.on('listening', () => report({ port: (server.address() as AddressInfo).port }));
