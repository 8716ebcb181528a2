// What a client of a hub said on one connection, as a flat table of fields that can be held beside another client's: what has to differ
// from one connection to the next (names, ids, signatures) is taken out.

import packets, { type Packet } from 'mqtt-packet';
import { framesOf, type Frame, type Shape } from './amqp-recording.ts';

export type Digest = Readonly<Record<string, string>>;

const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;

/** `path: theirs → ours` for each field that is not the same. */
export function differences(theirs: Digest, ours: Digest): readonly string[] {
  const paths = new Set([...Object.keys(theirs), ...Object.keys(ours)]);
  return [...paths]
    .filter((path) => theirs[path] !== ours[path])
    .map((path) => `${path}: ${theirs[path] ?? 'absent'} → ${ours[path] ?? 'absent'}`);
}

function timeless(text: string): string {
  return text
    .replaceAll(UUID, '<uuid>')
    .replace(/sig=[^&]+/, 'sig=<signature>')
    .replace(/se=\d+/, 'se=<time>');
}

function flatten(into: Record<string, string>, path: string, shape: Shape): void {
  if (shape === null) return;
  if (typeof shape === 'string') into[path] = timeless(shape);
  else if (Array.isArray(shape)) into[path] = JSON.stringify(shape);
  else for (const [field, value] of Object.entries(shape)) flatten(into, `${path}.${field}`, value);
}

interface Link {
  readonly name: string;
  readonly address: string;
  readonly isReceiver: boolean;
}

/** The fields of a frame that are of this connection alone. */
const OF_THE_CONNECTION: ReadonlySet<string> = new Set([
  'name',
  'handle',
  'role',
  'remote-channel',
  'container-id',
  'delivery-id',
  'delivery-tag',
]);

/** @param up what the client sent; @param down what it was sent. */
export function amqpDigest(up: Buffer, down: Buffer): Digest {
  const digest: Record<string, string> = {};
  const [said, heard] = [framesOf(up), framesOf(down)];
  const links = linksOf(said);
  const linkOf = ({ channel, fields }: Frame): Link | undefined => links.get(`${channel} ${textOf(fields['handle'])}`);
  const keep = (path: string, fields: Frame['fields']): void => {
    for (const [field, value] of Object.entries(fields)) {
      // The first of its kind stands for all.
      if (!OF_THE_CONNECTION.has(field) && !(`${path}.${field}` in digest)) flatten(digest, `${path}.${field}`, value);
    }
  };
  const headers = said.filter(({ name }) => name === 'protocol-header');
  digest['headers'] = headers.map(({ fields }) => textOf(fields['version'])).join();
  digest['sessions'] = String(said.filter(({ name }) => name === 'begin').length);
  for (const frame of said) {
    const link = linkOf(frame);
    const { fields, name, sections } = frame;
    if (name === 'open' || name === 'begin') keep(name, fields);
    if (link === undefined) continue;
    if (name === 'attach') keep(link.name, fields);
    if (name === 'flow' && link.isReceiver) keep(link.name, { 'link-credit': fields['link-credit'] ?? null });
    if (name === 'transfer') {
      const { 'message-annotations': annotations } = sections as { 'message-annotations'?: Record<string, Shape> };
      const what = `message to ${link.address} ${textOf(annotations?.['symbol operation'])}`.trim();
      if (`${what}.settled` in digest) continue;
      keep(what, fields);
      keep(what, sections);
    }
  }
  for (const [address, outcomes] of outcomesOf(said, heard, links)) digest[`outcomes ${address}`] = outcomes;
  digest['end'] = [...new Set(said.map(({ name }) => name))].filter((name) => /detach|end|close/.test(name)).join();
  return digest;
}

/** The links that a client attached, by channel and handle. */
function linksOf(frames: readonly Frame[]): ReadonlyMap<string, Link> {
  const links = new Map<string, Link>();
  for (const { channel, fields, name } of frames) {
    if (name !== 'attach') continue;
    const isReceiver = fields['role'] === 'boolean true';
    const terminus = fields[isReceiver ? 'source' : 'target'] as Readonly<Record<string, Shape>>;
    const address = textOf(terminus['address']).replace('string ', '');
    links.set(`${channel} ${textOf(fields['handle'])}`, {
      name: `${isReceiver ? 'receiver' : 'sender'} ${address}`,
      address,
      isReceiver,
    });
  }
  return links;
}

/** What the client made of the messages that it got, by address: the different outcomes. */
function outcomesOf(
  said: readonly Frame[],
  heard: readonly Frame[],
  links: ReadonlyMap<string, Link>,
): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const attached = said.filter(({ name }) => name === 'attach');
  for (const { channel, fields } of attached) {
    names.set(textOf(fields['name']), links.get(`${channel} ${textOf(fields['handle'])}`)?.address ?? '');
  }
  // The peer's channels are told by the one of ours that each answers.
  const channels = new Map<number, number>();
  const handles = new Map<string, string>();
  const deliveries = new Map<string, string>();
  for (const { channel, fields, name } of heard) {
    if (name === 'begin') channels.set(channel, numberOf(fields['remote-channel']));
    const ours = channels.get(channel) ?? -1;
    if (name === 'attach') handles.set(`${ours} ${textOf(fields['handle'])}`, names.get(textOf(fields['name'])) ?? '');
    if (name === 'transfer') {
      const address = handles.get(`${ours} ${textOf(fields['handle'])}`) ?? '';
      deliveries.set(`${ours} ${numberOf(fields['delivery-id'])}`, address);
    }
  }
  const outcomes = new Map<string, Set<string>>();
  for (const { channel, fields, name } of said) {
    if (name !== 'disposition' || fields['role'] !== 'boolean true') continue;
    const first = numberOf(fields['first']);
    const last = fields['last'] === undefined ? first : numberOf(fields['last']);
    for (let id = first; id <= last; id += 1) {
      const address = deliveries.get(`${channel} ${id}`) ?? 'nobody';
      const text = JSON.stringify({ settled: fields['settled'] ?? null, state: fields['state'] ?? null });
      outcomes.set(address, (outcomes.get(address) ?? new Set()).add(text));
    }
  }
  return new Map([...outcomes].map(([address, texts]) => [address, [...texts].toSorted().join()]));
}

/** Of a scalar. */
function textOf(shape: Shape | undefined): string {
  return typeof shape === 'string' ? shape : '';
}

function numberOf(shape: Shape | undefined): number {
  return Number(textOf(shape).split(' ').at(-1));
}

/** @param up what the client sent. */
export function mqttDigest(up: Buffer): Digest {
  const digest: Record<string, string> = {};
  const said: Packet[] = [];
  const parser = packets.parser({ protocolVersion: 4 });
  parser.on('packet', (packet: Packet) => void said.push(packet));
  parser.parse(up);
  for (const packet of said) {
    if (packet.cmd === 'connect') {
      const { clean, clientId, keepalive, password, protocolId, protocolVersion, username = '', will } = packet;
      const [path = '', query = ''] = username.split('?');
      Object.assign(digest, {
        'connect.protocol': `${protocolId} ${protocolVersion}`,
        'connect.clean': String(clean),
        'connect.keepalive': String(keepalive),
        'connect.client-id': clientId,
        'connect.password': timeless(String(password)),
        'connect.will': String(will !== undefined),
        'connect.user-name': path,
      });
      for (const [name, value] of new URLSearchParams(query)) digest[`connect.user-name.${name}`] = value;
    }
    if (packet.cmd === 'subscribe') {
      for (const { topic, qos } of packet.subscriptions) digest[`subscribe ${topic}`] = `qos ${qos}`;
    }
    if (packet.cmd === 'publish') {
      const { dup, payload, qos, retain, topic } = packet;
      const [, events, bag] = /^(devices\/.*\/events\/)(.*)$/.exec(topic) ?? [];
      const what = `publish ${events ?? topic.replace(/(?<=rid=).*/, '<id>')}`;
      digest[what] = `qos ${qos}${retain ? ' retain' : ''}${dup ? ' dup' : ''}`;
      if (events === undefined && !topic.includes('/GET/')) continue;
      digest[`${what} payload`] = String(payload);
      for (const pair of bag?.split('&') ?? []) digest[`${what} ${pair.split('=', 1)[0] ?? ''}`] = pair;
    }
  }
  digest['acknowledged'] = String(said.filter(({ cmd }) => cmd === 'puback').length);
  digest['end'] = said.at(-1)?.cmd ?? '';
  return digest;
}
