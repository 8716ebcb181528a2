// Who had which device do what, and how it ended: the last LIMITS.audit_records of it, durably.

import type { AuditRecord } from '../core/command.ts';
import { LIMITS } from '../core/limits.ts';
import type { StateSpace } from '../core/state.ts';

export interface Audit {
  /**
   * A record of what is about to begin, as it stands if nobody is there to say how it ended; resolves with its number. Not
   * listed before it is ended or the gateway was started again. @throws GatewayError as `StateSpace.write`.
   */
  begin(record: Omit<AuditRecord, 'number'>): Promise<number>;
  /** Durable when it resolves. In place of the one with that `number`, if any. @throws GatewayError as `StateSpace.write`. */
  add(record: Omit<AuditRecord, 'number'>, number?: number): Promise<void>;
  /** The newest first; `before` is the number of the last record of the page before. @throws GatewayError as `StateSpace.get`. */
  list(options: { readonly limit: number; readonly before?: number }): Promise<readonly AuditRecord[]>;
}

const NUMBER_DIGITS = 16;

export function createAudit(space: StateSpace): Audit {
  /** Numbers of the oldest and of the next record; read once. */
  let bounds: Promise<{ oldest: number; next: number }> | undefined;
  /** Numbers of what was begun; at most as many as commands are under way. */
  const underWay = new Set<number>();

  async function readBounds(): Promise<{ oldest: number; next: number }> {
    let oldest: number | undefined;
    let last = 0;
    for await (const [key] of space.entries()) {
      last = Number(key);
      oldest ??= last;
    }
    return { oldest: oldest ?? 1, next: last + 1 };
  }

  function known(): Promise<{ oldest: number; next: number }> {
    bounds ??= readBounds().catch((error: unknown) => {
      bounds = undefined;
      throw error;
    });
    return bounds;
  }

  async function put(record: Omit<AuditRecord, 'number'>, number: number): Promise<void> {
    const range = await known();
    const changes: { key: string; value?: Uint8Array }[] = [
      { key: keyOf(number), value: Buffer.from(JSON.stringify({ number, ...record })) },
    ];
    while (range.next - range.oldest > LIMITS.audit_records) {
      changes.push({ key: keyOf(range.oldest) });
      range.oldest += 1;
    }
    await space.write(changes);
  }

  async function nextNumber(): Promise<number> {
    const range = await known();
    const number = range.next;
    range.next += 1;
    return number;
  }

  return {
    async begin(record) {
      const number = await nextNumber();
      underWay.add(number);
      await put(record, number);
      return number;
    },
    async add(record, number) {
      try {
        await put(record, number ?? (await nextNumber()));
      } finally {
        if (number !== undefined) underWay.delete(number);
      }
    },
    async list({ limit, before }) {
      const range = await known();
      const found: AuditRecord[] = [];
      for (let number = Math.min(before ?? range.next, range.next) - 1; number >= range.oldest; number -= 1) {
        if (found.length >= limit) break;
        if (underWay.has(number)) continue;
        const value = await space.get(keyOf(number));
        // A record that could not be written has left its number out.
        if (value !== undefined) found.push(JSON.parse(Buffer.from(value).toString('utf8')) as AuditRecord);
      }
      return found;
    },
  };
}

function keyOf(number: number): string {
  return String(number).padStart(NUMBER_DIGITS, '0');
}
