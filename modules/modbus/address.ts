// Where a value is: one of the four tables of the Modbus data model (MODBUS Application Protocol V1.1b3, 4.3) and a
// zero-based protocol address (4.4).

import { GatewayError } from '#sdk';

export type RegisterTable = 'coil' | 'discrete' | 'input' | 'holding';

export interface RegisterAddress {
  readonly table: RegisterTable;
  /** 0 to 65535, as it goes over the wire. */
  readonly address: number;
}

/** The highest protocol address. */
export const ADDRESS_MAX = 0xffff;

/** First digit of the classic one-based numbers. */
const CLASSIC_TABLES: Readonly<Record<string, RegisterTable>> = {
  '0': 'coil',
  '1': 'discrete',
  '3': 'input',
  '4': 'holding',
};

const ALLOWED =
  'Write table and zero-based address (input:0, holding:0x156, coil:3, discrete:3) or the classic number of 5 or 6 digits (40001 is holding:0; coils in quotes, "00001").';

/**
 * Reads `table:address` (zero-based, decimal or hexadecimal) or a classic one-based number of five or six digits, whose
 * first digit is the table: 40001 and 400001 are `holding:0`.
 * @throws GatewayError GW_CONFIG_INVALID
 */
export function parseRegister(text: string | number): RegisterAddress {
  const trimmed = String(text).trim();
  const named = /^(coil|discrete|input|holding):(0x[0-9a-f]{1,8}|\d{1,10})$/i.exec(trimmed);
  if (named !== null) {
    const table = named[1]?.toLowerCase() as RegisterTable;
    const address = Number(named[2]);
    if (address <= ADDRESS_MAX) return { table, address };
    throw refused(trimmed, `addresses end at ${ADDRESS_MAX} (0xffff)`);
  }
  const classic = /^([0134])(\d{4,5})$/.exec(trimmed);
  if (classic !== null) return parseClassic(trimmed, classic[1] ?? '', Number(classic[2]));
  throw refused(trimmed);
}

function parseClassic(text: string, digit: string, number: number): RegisterAddress {
  const table = CLASSIC_TABLES[digit];
  if (table === undefined) throw refused(text);
  if (number === 0) throw refused(text, 'classic numbers count from 1');
  if (number - 1 > ADDRESS_MAX) throw refused(text, `classic numbers end at ${digit}${ADDRESS_MAX + 1}`);
  return { table, address: number - 1 };
}

function refused(text: string, why?: string): GatewayError {
  const reason = why === undefined ? '' : ` (${why})`;
  return new GatewayError('GW_CONFIG_INVALID', `"${text}" is not a register${reason}. ${ALLOWED}`);
}

/** True for the tables of single bits. */
export function isBitTable(table: RegisterTable): boolean {
  return table === 'coil' || table === 'discrete';
}

/** True for the tables that can be written. */
export function isWritableTable(table: RegisterTable): boolean {
  return table === 'coil' || table === 'holding';
}

/** `holding:342` */
export function registerText({ table, address }: RegisterAddress): string {
  return `${table}:${address}`;
}
