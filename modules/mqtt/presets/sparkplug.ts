// Sparkplug B (https://sparkplug.eclipse.org/specification/version/3.0/), as a host application without STATE:
// `spBv1.0/GROUP/NDATA/NODE[/DEVICE]`. Births tell names, aliases, types and units; data without a birth asks for a rebirth.
// The device id is `GROUP.NODE` for an edge node and `GROUP.NODE.DEVICE` for a device behind it.

import { GatewayError, LIMITS, type Clock, type PointInfo, type PointValue } from '#sdk';
import type { Arrival, Dialect, Publish, Told, Understood, WritePlan } from '../dialect.ts';
import { datatypeName, decodeSparkplug, encodeSparkplug, type SparkplugPayload } from './sparkplug-codec.ts';
import { idOfName } from './device-id.ts';
import { isPointName } from './point-table.ts';
import {
  BIRTH_DEATH,
  birthReadings,
  dataReadings,
  type KnownMetric,
  type KnownMetrics,
  type TimedReadings,
} from './sparkplug-readings.ts';
import { compileTopic } from '../topic-template.ts';

const NODE = compileTopic('spBv1.0/{group}/{type}/{node}');
const DEVICE = compileTopic('spBv1.0/{group}/{type}/{node}/{device}');
const REBIRTH = 'Node Control/Rebirth';
const CONFIRM_MS = 5000;
/** Between two requests for a rebirth: a node that does not understand, or leaves out what its data has, is not worn out. */
const REBIRTH_MS = 10_000;

/** What the last birth of a node or device told. */
interface Birth extends KnownMetrics {
  readonly points: readonly PointInfo[];
  /** It told more than is kept of it: an alias that is not known need not be new. */
  readonly isCut: boolean;
}

interface Node {
  bdSeq: bigint | number | undefined;
  /** Of the next message, 0 to 255; undefined until a birth. */
  nextSeq: number | undefined;
  /** Something of it was not understood since its last birth. */
  isInDoubt: boolean;
  /** When it was asked for a rebirth last; monotonic. */
  askedMs: number | undefined;
  readonly births: Map<string, Birth>;
}

type SparkplugClock = Pick<Clock, 'wallMs' | 'monotonicMs'>;

interface Address {
  readonly group: string;
  readonly type: string;
  readonly node: string;
  readonly device: string | undefined;
}

export function createSparkplug(clock: SparkplugClock): Dialect {
  const nodes = new Map<string, Node>();
  const addresses = new Map<string, Address>();

  const nodeOf = ({ group, node }: Address): Node | undefined => {
    const key = `${group}/${node}`;
    const known = nodes.get(key);
    if (known !== undefined || nodes.size >= LIMITS.devices) return known;
    const fresh: Node = {
      bdSeq: undefined,
      nextSeq: undefined,
      isInDoubt: false,
      askedMs: undefined,
      births: new Map(),
    };
    nodes.set(key, fresh);
    return fresh;
  };

  const understand = ({ topic, payload, replayed }: Arrival, address: Address): Understood => {
    const device = idOf(address);
    // Another one with this id was first: commands for the one must not go to the other.
    const known = addresses.get(device);
    if (known !== undefined && !isSame(known, address)) return { told: [{ device, fault: 'ambiguous_id' }] };
    const node = nodeOf(address);
    const decoded = decodeSparkplug(payload);
    if (node === undefined) return { told: [{ device, fault: 'too_many_nodes' }] };
    if (decoded === undefined) return { told: [{ device, fault: 'payload_not_sparkplug' }] };
    if (known === undefined && addresses.size < LIMITS.devices) addresses.set(device, address);
    switch (address.type) {
      case 'NBIRTH':
        return { told: nodeBirth(node, address, decoded) };
      case 'DBIRTH':
        return { told: birth(node, address, decoded) };
      case 'NDATA':
      case 'DDATA':
        return replayed ? { told: [] } : data(node, address, decoded, clock);
      case 'DDEATH':
        return deviceDeath(node, address, decoded, clock);
      case 'NDEATH':
        return { told: death(node, address, decoded) };
      default:
        return { told: topic === '' ? [] : [] };
    }
  };

  return {
    name: 'sparkplug',
    filters: [
      'spBv1.0/+/NBIRTH/+',
      'spBv1.0/+/NDATA/+',
      'spBv1.0/+/NDEATH/+',
      'spBv1.0/+/DBIRTH/+/+',
      'spBv1.0/+/DDATA/+/+',
      'spBv1.0/+/DDEATH/+/+',
    ],
    // A node speaks for the devices behind it, in its own name.
    owner: (topic) => {
      const address = addressOf(topic);
      return address === undefined ? undefined : idOf({ ...address, device: undefined });
    },
    // With STATE, hosts tell nodes to send, or to hold back (6.4.24; before 3.0 outside the namespace).
    isCommand: (topic) => /^(?:spBv1\.0\/[^/]+\/[ND]CMD|spBv1\.0\/STATE|STATE)\//.test(topic),
    understand(arrival): Understood | undefined {
      const address = addressOf(arrival.topic);
      return address === undefined ? undefined : understand(arrival, address);
    },
    planWrite(device, point, value): WritePlan | undefined {
      const address = addresses.get(device);
      const metric = address === undefined ? undefined : nodeOf(address)?.births.get(device)?.byName.get(point);
      const type = metric?.datatype === undefined ? undefined : datatypeName(metric.datatype);
      if (address === undefined || metric === undefined || type === undefined) return undefined;
      const wanted = wireValue(value, metric.datatype ?? 0);
      if (wanted === undefined) {
        const range = INTEGERS.get(metric.datatype ?? 0);
        const bounds = range === undefined ? '' : `, ${range.min} to ${range.max}`;
        throw new GatewayError('GW_WRITE_REFUSED', `"${point}" of "${device}" takes a value of type ${type}${bounds}.`);
      }
      const payload = encodeSparkplug(clock.wallMs(), { name: point, type, value: wanted });
      return { publish: [{ topic: commandTopic(address), payload }], confirmedBy: 'reading', timeoutMs: CONFIRM_MS };
    },
  };
}

function addressOf(topic: string): Address | undefined {
  const found = NODE.match(topic) ?? DEVICE.match(topic);
  const { group, type, node, device } = found ?? {};
  if (group === undefined || type === undefined || node === undefined || type === 'STATE') return undefined;
  return { group, type, node, device };
}

function idOf({ group, node, device }: Pick<Address, 'group' | 'node' | 'device'>): string {
  return idOfName([group, node, device].filter((part) => part !== undefined).join('.'));
}

function isSame(a: Address, b: Address): boolean {
  return a.group === b.group && a.node === b.node && a.device === b.device;
}

function commandTopic({ group, node, device }: Address): string {
  return device === undefined ? `spBv1.0/${group}/NCMD/${node}` : `spBv1.0/${group}/DCMD/${node}/${device}`;
}

function bdSeqOf({ metrics }: SparkplugPayload): bigint | number | undefined {
  const value = metrics.find(({ name }) => name === BIRTH_DEATH)?.value(undefined);
  return typeof value === 'number' || typeof value === 'bigint' ? value : undefined;
}

/** Ends the births of all devices behind the node: each is away until it is born again, which may never be. */
function nodeBirth(node: Node, address: Address, payload: SparkplugPayload): readonly Told[] {
  const own = idOf(address);
  const others = [...node.births.keys()].filter((device) => device !== own);
  node.births.clear();
  node.bdSeq = bdSeqOf(payload);
  node.isInDoubt = false;
  return [...birth(node, address, payload), ...others.map((device) => ({ device, online: false }))];
}

function birth(node: Node, address: Address, payload: SparkplugPayload): readonly Told[] {
  const device = idOf(address);
  const byName = new Map<string, KnownMetric>();
  const byAlias = new Map<bigint, KnownMetric>();
  for (const { name, alias, datatype, unit } of payload.metrics.slice(0, LIMITS.mqtt_device_points)) {
    if (name === undefined || !isPointName(name)) continue;
    const metric: KnownMetric = { name, datatype, unit };
    byName.set(name, metric);
    if (alias !== undefined) byAlias.set(alias, metric);
  }
  const points = [...byName.values()]
    .filter(({ name }) => name !== BIRTH_DEATH)
    .map(({ name, datatype = 0, unit }): PointInfo => {
      const writable = datatypeName(datatype) !== undefined;
      return { name, address: name, writable, ...(unit !== undefined && { unit }) };
    });
  const isCut = byName.size < payload.metrics.length;
  const known: Birth = { byName, byAlias, points, isCut };
  node.births.set(device, known);
  if (payload.seq !== undefined) node.nextSeq = (payload.seq + 1) % 256;
  const { readings, fault } = birthReadings(payload, known);
  return tell({ device, online: true, points, ...(fault !== undefined && { fault }) }, readings);
}

/** What is told of a device, with readings of several times. */
function tell(told: Told, [first, ...others]: readonly TimedReadings[]): readonly Told[] {
  return [{ ...told, ...first }, ...others.map((readings) => ({ device: told.device, ...readings }))];
}

/** Without its birth, with a hole in the numbering or an alias that no birth told, the node is asked for its births. */
function data(node: Node, address: Address, payload: SparkplugPayload, clock: SparkplugClock): Understood {
  const device = idOf(address);
  const known = node.births.get(device);
  const inOrder = isNext(node, payload);
  if (known === undefined || !inOrder) node.isInDoubt = true;
  if (known === undefined) return { told: [{ device, fault: 'no_birth' }], ...askForBirths(node, address, clock) };
  const { readings, fault: metricFault } = dataReadings(payload, known);
  if (metricFault === 'unknown_alias' && !known.isCut) node.isInDoubt = true;
  const fault = inOrder ? metricFault : 'sequence';
  return {
    told: tell({ device, online: true, ...(fault !== undefined && { fault }) }, readings),
    ...askForBirths(node, address, clock),
  };
}

/** Has its number among the messages of the node (tck-id-payloads-ddeath-seq). */
function deviceDeath(node: Node, address: Address, payload: SparkplugPayload, clock: SparkplugClock): Understood {
  const device = idOf(address);
  node.births.delete(device);
  if (isNext(node, payload)) return { told: [{ device, online: false }] };
  node.isInDoubt = true;
  return { told: [{ device, online: false, fault: 'sequence' }], ...askForBirths(node, address, clock) };
}

/** Whether no message of the node is missing before this one; the next one has to follow it. */
function isNext(node: Node, { seq }: SparkplugPayload): boolean {
  if (seq === undefined) return true;
  const isExpected = node.nextSeq === undefined || seq === node.nextSeq;
  node.nextSeq = (seq + 1) % 256;
  return isExpected;
}

/** Until a birth of the node comes: the request, or the birth, may have been lost. */
function askForBirths(node: Node, address: Address, clock: SparkplugClock): Pick<Understood, 'ask'> {
  const nowMs = clock.monotonicMs();
  if (!node.isInDoubt || (node.askedMs !== undefined && nowMs - node.askedMs < REBIRTH_MS)) return {};
  node.askedMs = nowMs;
  return { ask: [rebirth(address, clock.wallMs())] };
}

/** NCMD with `Node Control/Rebirth` true (6.4.23). */
function rebirth({ group, node }: Address, nowMs: number): Publish {
  return {
    topic: `spBv1.0/${group}/NCMD/${node}`,
    payload: encodeSparkplug(nowMs, { name: REBIRTH, type: 'Boolean', value: true }),
  };
}

/** A death counts when its bdSeq is that of the last birth: an older will may come late (6.4.19). */
function death(node: Node, address: Address, payload: SparkplugPayload): Told[] {
  const bdSeq = bdSeqOf(payload);
  if (bdSeq !== undefined && node.bdSeq !== undefined && BigInt(bdSeq) !== BigInt(node.bdSeq)) return [];
  const gone = [...node.births.keys()];
  node.births.clear();
  node.nextSeq = undefined;
  const own = idOf({ ...address, device: undefined });
  return [...new Set([own, ...gone])].map((device) => ({ device, online: false }));
}

/** Integers by data type (6.4.16), DateTime with them: ms since 1970. */
const INTEGERS: ReadonlyMap<number, { readonly min: bigint; readonly max: bigint }> = new Map([
  ...[8n, 16n, 32n, 64n].map(
    (bits, index) => [index + 1, { min: -(2n ** (bits - 1n)), max: 2n ** (bits - 1n) - 1n }] as const,
  ),
  ...[8n, 16n, 32n, 64n].map((bits, index) => [index + 5, { min: 0n, max: 2n ** bits - 1n }] as const),
  [13, { min: 0n, max: 2n ** 64n - 1n }] as const,
]);
const FLOAT = 9;
const DOUBLE = 10;
const BOOLEAN = 11;

/** The value as the data type has it; undefined when it has no such value. A Float is the nearest one. */
function wireValue(value: PointValue, datatype: number): PointValue | undefined {
  const range = INTEGERS.get(datatype);
  if (range !== undefined) {
    const integer = integerOf(value);
    return integer !== undefined && integer >= range.min && integer <= range.max ? integer : undefined;
  }
  switch (datatype) {
    case FLOAT:
      return typeof value === 'number' && Number.isFinite(Math.fround(value)) ? value : undefined;
    case DOUBLE:
      return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
    case BOOLEAN:
      return typeof value === 'boolean' ? value : undefined;
    default:
      return typeof value === 'string' ? value : undefined;
  }
}

/** Integers beyond 2^53-1 come as bigint or as text. */
function integerOf(value: PointValue): bigint | undefined {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : undefined;
  return typeof value === 'string' && /^-?\d{1,20}$/.test(value) ? BigInt(value) : undefined;
}
