// `fieldpost buffer …`: looks into the outbox and puts it right, in a running gateway or in a store opened by the command.

import type { BufferAdmin, MessageView, QuarantinedView } from '../core/admin.ts';
import { counted } from '../core/counted.ts';
import { EXIT_CODES, GatewayError } from '../core/errors.ts';
import type { OutboxStats } from '../core/outbox.ts';
import { parseCommand, usageError, wholeNumber, type CommandOutput } from './command.ts';
import { formatAge, formatBytes, renderTable } from './table.ts';

export const BUFFER_USAGE = `Usage: fieldpost buffer COMMAND [--json]
  stats                                          what waits, for whom, since when
  list [--queue NAME] [--from OFFSET] [--limit N]   messages in the order of the log
  list --quarantine [--limit N]                  messages that an endpoint refused for good
  export [--queue NAME | --quarantine]           all of them, one JSON object a line
  requeue ID… | --all                            send quarantined messages again
  purge --queue NAME --yes                       drop what waits for an endpoint
  purge --quarantine [ID…] --yes                 delete quarantined messages`;

/** Messages fetched at a time. */
const PAGE = 500;
const LIST_DEFAULT = 20;
const LIST_MAX = 100_000;
const BODY_CHARS = 60;

export interface BufferCommandPorts extends CommandOutput {
  readonly buffer: BufferAdmin;
}

/**
 * Runs one command; returns the exit code.
 * @throws GatewayError GW_USAGE, GW_NOT_FOUND and what the outbox or the control socket throws.
 */
export async function runBufferCommand(args: readonly string[], ports: BufferCommandPorts): Promise<number> {
  const { values, positionals } = parseCommand(
    args,
    {
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        queue: { type: 'string' },
        quarantine: { type: 'boolean', default: false },
        from: { type: 'string' },
        limit: { type: 'string' },
        all: { type: 'boolean', default: false },
        yes: { type: 'boolean', default: false },
      },
    },
    BUFFER_USAGE,
  );
  const [verb, ...ids] = positionals;
  const command = COMMANDS.get(verb ?? '');
  if (command === undefined) {
    throw usageError(verb === undefined ? 'Which command' : `There is no command "buffer ${verb}"`, BUFFER_USAGE);
  }
  await command({ ...values, ids }, ports);
  return EXIT_CODES.ok;
}

interface Options {
  readonly ids: readonly string[];
  readonly json: boolean;
  readonly quarantine: boolean;
  readonly all: boolean;
  readonly yes: boolean;
  readonly queue?: string | undefined;
  readonly from?: string | undefined;
  readonly limit?: string | undefined;
}

type Command = (options: Options, ports: BufferCommandPorts) => Promise<void>;

const COMMANDS: ReadonlyMap<string, Command> = new Map(
  Object.entries({ stats, list, export: exportAll, requeue, purge }),
);

async function stats({ json }: Options, { buffer, out }: BufferCommandPorts): Promise<void> {
  const found = await buffer.stats();
  await out(json ? `${JSON.stringify(found)}\n` : statsText(found));
}

function statsText(found: OutboxStats): string {
  const age = found.oldestAgeMs === undefined ? '' : `, the oldest ${formatAge(found.oldestAgeMs)} old`;
  const disk = `${formatBytes(found.diskBytes)} on disk, ${formatBytes(found.freeBytes)} free`;
  const lines = [
    `${counted(found.messages, 'message waits', 'messages wait')} (${formatBytes(found.bytes)}${age}); ${disk}.`,
    `${found.quarantined} in quarantine, epoch ${found.epoch}, offsets ${found.headOffset} to ${found.tailOffset}.`,
    ...(found.full ? ['A limit of the outbox is reached.'] : []),
  ];
  const table = renderTable(
    [
      { title: 'QUEUE' },
      { title: 'WAITING', align: 'right' },
      { title: 'BYTES', align: 'right' },
      { title: 'HISTORY', align: 'right' },
      { title: 'IN FLIGHT', align: 'right' },
      { title: 'OLDEST', align: 'right' },
      { title: 'ACCEPTED', align: 'right' },
      { title: 'DROPPED', align: 'right' },
      { title: 'NOTE' },
    ],
    found.queues.map((queue) => [
      queue.name,
      String(queue.messages),
      formatBytes(queue.bytes),
      String(queue.history.messages),
      String(queue.inFlight),
      queue.oldestAgeMs === undefined ? '-' : formatAge(queue.oldestAgeMs),
      String(queue.acceptedTotal),
      String(queue.droppedTotal),
      queue.detached ? 'no endpoint of that name is configured' : '',
    ]),
  );
  return `${lines.join('\n')}\n\n${table}`;
}

async function list(options: Options, { buffer, out }: BufferCommandPorts): Promise<void> {
  const limit = wholeNumber(options.limit, {
    name: 'limit',
    min: 1,
    max: LIST_MAX,
    fallback: LIST_DEFAULT,
    usage: BUFFER_USAGE,
  });
  const pages = options.quarantine ? quarantinePages(buffer) : messagePages(buffer, options);
  const rows: (readonly string[])[] = [];
  let count = 0;
  for await (const page of pages) {
    for (const item of page.slice(0, limit - count)) {
      count += 1;
      if (options.json) await out(`${JSON.stringify(item)}\n`);
      else rows.push(row(item));
    }
    if (count >= limit) break;
  }
  if (options.json) return;
  if (count === 0) await out(options.quarantine ? 'The quarantine is empty.\n' : 'No messages wait.\n');
  else await out(renderTable(options.quarantine ? QUARANTINE_COLUMNS : MESSAGE_COLUMNS, rows));
}

const MESSAGE_COLUMNS = [
  { title: 'OFFSET', align: 'right' },
  { title: 'TIME' },
  { title: 'DEVICE' },
  { title: 'SEQ', align: 'right' },
  { title: 'BYTES', align: 'right' },
  { title: 'BODY' },
] as const;
const QUARANTINE_COLUMNS = [
  { title: 'ID' },
  { title: 'SINCE' },
  { title: 'QUEUE' },
  { title: 'REASON' },
  ...MESSAGE_COLUMNS.slice(2),
];

function row(item: MessageView | QuarantinedView): readonly string[] {
  if ('message' in item) return [item.id, item.at, item.queue, item.reason, ...row(item.message).slice(2)];
  const body = item.body ?? `base64 ${item.bodyBase64 ?? ''}`;
  const short = body.length > BODY_CHARS ? `${body.slice(0, BODY_CHARS)}…` : body;
  return [String(item.offset), item.time, item.deviceId, String(item.seq), String(item.bodyBytes), short];
}

async function exportAll(options: Options, { buffer, out, err }: BufferCommandPorts): Promise<void> {
  const before = (await buffer.stats()).droppedTotal;
  const pages = options.quarantine ? quarantinePages(buffer) : messagePages(buffer, options);
  for await (const page of pages) await out(page.map((item) => `${JSON.stringify(item)}\n`).join(''));
  const lost = (await buffer.stats()).droppedTotal - before;
  if (lost > 0)
    err?.(
      `${counted(lost, 'message is', 'messages are')} not in this export: they could not be read, or a limit dropped them meanwhile.\n`,
    );
}

async function* messagePages(buffer: BufferAdmin, options: Options): AsyncGenerator<readonly MessageView[]> {
  let fromOffset = wholeNumber(options.from, {
    name: 'from',
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    fallback: 0,
    usage: BUFFER_USAGE,
  });
  const queue = options.queue === undefined ? {} : { queue: options.queue };
  for (;;) {
    const page = await buffer.messages({ ...queue, fromOffset, limit: PAGE });
    const last = page.at(-1);
    if (last === undefined) return;
    yield page;
    fromOffset = last.offset + 1;
  }
}

async function* quarantinePages(buffer: BufferAdmin): AsyncGenerator<readonly QuarantinedView[]> {
  let after: { afterId?: string } = {};
  for (;;) {
    const page = await buffer.quarantined({ ...after, limit: PAGE });
    const last = page.at(-1);
    if (last === undefined) return;
    yield page;
    after = { afterId: last.id };
  }
}

/** Ids of everything that is in quarantine now; collected first, since what is requeued may come back. */
async function allQuarantined(buffer: BufferAdmin): Promise<readonly string[]> {
  const ids: string[] = [];
  for await (const page of quarantinePages(buffer)) ids.push(...page.map(({ id }) => id));
  return ids;
}

async function inPages(ids: readonly string[], act: (ids: readonly string[]) => Promise<number>): Promise<number> {
  let count = 0;
  for (let start = 0; start < ids.length; start += PAGE) count += await act(ids.slice(start, start + PAGE));
  return count;
}

async function requeue({ ids, all, json }: Options, { buffer, out }: BufferCommandPorts): Promise<void> {
  if (all === ids.length > 0) throw usageError('Give either ids or --all', BUFFER_USAGE);
  const count = await inPages(all ? await allQuarantined(buffer) : ids, (page) => buffer.requeue(page));
  await out(
    json
      ? `${JSON.stringify({ requeued: count })}\n`
      : `${counted(count, 'message waits', 'messages wait')} to be sent again.\n`,
  );
  assertFound(ids, count);
}

async function purge(options: Options, { buffer, out }: BufferCommandPorts): Promise<void> {
  const { queue, quarantine, ids, yes, json } = options;
  if (quarantine === (queue !== undefined)) throw usageError('Give either --queue NAME or --quarantine', BUFFER_USAGE);
  if (queue !== undefined && ids.length > 0) throw usageError('A queue is purged whole, without ids', BUFFER_USAGE);
  if (!yes) {
    const { queues, quarantined } = await buffer.stats();
    const waiting = queue === undefined ? quarantined : (queues.find(({ name }) => name === queue)?.messages ?? 0);
    const lost = ids.length > 0 ? ids.length : waiting;
    throw usageError(`This deletes ${counted(lost, 'message')} for good; add --yes to do it`, BUFFER_USAGE);
  }
  const count =
    queue === undefined
      ? await inPages(ids.length > 0 ? ids : await allQuarantined(buffer), (page) => buffer.discard(page))
      : await buffer.purge(queue);
  await out(json ? `${JSON.stringify({ deleted: count })}\n` : `${counted(count, 'message')} deleted.\n`);
  assertFound(ids, count);
}

/** @throws GatewayError GW_NOT_FOUND when some of the ids that were named were not in quarantine. */
function assertFound(ids: readonly string[], count: number): void {
  const missing = new Set(ids).size - count;
  if (missing <= 0) return;
  throw new GatewayError(
    'GW_NOT_FOUND',
    `${missing} of the ids are not in quarantine. \`buffer list --quarantine\` shows those that are.`,
  );
}
