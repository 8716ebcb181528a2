// The scale of the simulated site: boxes come onto its platform and go. It answers lines as many real ones do.

/** How long a box stays, and the pause after it. */
const BOX_MS = 20_000;
const BOXES_KG = [12.5, 31.2, 7.85, 22.4] as const;
const SWAY_KG = 0.02;

export class Scale {
  #tareKg = 0;
  #limitKg = 50;

  /** The answer to one line; `W` weighs, `T` tares, `L?` and `L050.00` read and set the limit. */
  answer(request: string, wallMs: number): string {
    if (request === 'W') return `W ${(this.#grossKg(wallMs) - this.#tareKg).toFixed(2)} kg`;
    if (request === 'L?') return `L ${this.#limitKg.toFixed(2)} kg`;
    if (request === 'T') {
      this.#tareKg = this.#grossKg(wallMs);
      return 'OK';
    }
    const limit = /^L(\d{3}\.\d{2})$/.exec(request)?.[1];
    if (limit === undefined) return 'ERR 1';
    if (Number(limit) > 150) return 'ERR 2';
    this.#limitKg = Number(limit);
    return 'OK';
  }

  #grossKg(wallMs: number): number {
    const box = BOXES_KG[Math.floor(wallMs / BOX_MS) % BOXES_KG.length] ?? 0;
    const isEmpty = wallMs % BOX_MS > BOX_MS * 0.8;
    return (isEmpty ? 0 : box) + SWAY_KG * Math.sin(wallMs / 700);
  }
}
