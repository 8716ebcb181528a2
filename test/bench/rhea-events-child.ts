// What an events endpoint costs at least: a bare rhea that lets everybody in and sends made-up messages to whoever reads a
// partition. Arguments: its address, paths of its certificate and key, number of partitions, bytes of a body. Reports its port;
// told a count, it sends so many over all partitions.

import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import rhea, { type EventContext, type Sender } from 'rhea';
import { onCommand, report } from '../support/child.ts';

const [address = '127.0.0.1', certificate = '', key = '', partitionsText = '4', bodyBytes = '256'] =
  process.argv.slice(2);
const partitions = Number(partitionsText);
const random = Buffer.alloc(Number(bodyBytes), Math.random().toString(36));
const links: { readonly sender: Sender; readonly partition: number }[] = [];
/** Of each partition, told and sent. */
let told = 0;
const sent = Array.from({ length: partitions }, () => 0);
const replies = new Map<string, Sender>();

const { message, types } = rhea;
// Settled as they are sent, like those of the hub.
const container = rhea.create_container({ sender_options: { snd_settle_mode: 1 } });

function event(partition: number, number: number): Parameters<Sender['send']>[0] {
  const body = Buffer.from(random);
  body.writeUInt32BE(partition, 0);
  body.writeUInt32BE(number, 4);
  body.writeDoubleBE(performance.now(), 8);
  const device = `device-${partition}`;
  return {
    message_annotations: {
      'x-opt-sequence-number': types.wrap_long(number),
      'x-opt-offset': String(number * 400),
      'x-opt-enqueued-time': types.wrap_timestamp(Date.now()),
      'x-opt-partition-key': device,
      'iothub-connection-device-id': device,
      'iothub-connection-auth-method': '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}',
      'iothub-connection-auth-generation-id': '639000000000000000',
      'iothub-message-source': 'Telemetry',
      'iothub-enqueuedtime': types.wrap_timestamp(Date.now()),
    },
    body: message.data_section(body),
  };
}

function sendWhatFits(): void {
  for (const { sender, partition } of links) {
    for (let number = sent[partition] ?? 0; number < told && sender.sendable(); number += 1) {
      sender.send(event(partition, number));
      sent[partition] = number + 1;
    }
  }
}

container.on('sender_open', ({ sender }: EventContext) => {
  const source = sender?.source?.address ?? '';
  if (sender === undefined) return;
  sender.set_source(sender.source);
  sender.set_target(sender.target);
  if (source === '$cbs') {
    // The SDK calls the link by the address to reply to.
    replies.set(sender.name, sender);
    return;
  }
  const partition = Number(/Partitions\/(\d+)$/.exec(source)?.[1] ?? 0);
  links.push({ sender, partition });
});
container.on('receiver_open', ({ receiver }: EventContext) => receiver?.set_target(receiver.target));
container.on('message', ({ message: request }: EventContext) => {
  const reply = {
    ...(request?.message_id !== undefined && { correlation_id: request.message_id }),
    application_properties: { 'status-code': 202, 'status-description': 'Accepted' },
    body: undefined,
  };
  replies.get(request?.reply_to ?? '')?.send(reply);
});
container.on('sendable', sendWhatFits);

onCommand((command) => {
  told += (command as { readonly count: number }).count / partitions;
  sendWhatFits();
});
const server = container.listen({
  transport: 'tls',
  host: address,
  port: 0,
  cert: readFileSync(certificate),
  key: readFileSync(key),
});
server.on('listening', () => report({ port: (server.address() as AddressInfo).port }));
