// The chance that a seat is left at a visitor's turn.

/**
 * Percent to the next ten, as in a position's `seat_chance_percent`: 90 stands for 80 or more, 10 for less than 20. `null` while nothing is
 * known of the stock. `reach` is the status's `available_to_distance`.
 */
export function seat_chance(reach, distance) {
  if (!reach) return null;
  const [likely, even, unlikely] = reach.map((upto) => upto ?? Infinity);
  const between = (near, far, upper) => 10 * Math.ceil((far < Infinity && far > near ? upper - Math.floor((30 * (distance - near)) / (far - near)) : upper - 10) / 10);
  if (distance <= likely) return 90;
  if (distance <= even) return between(likely, even, 80);
  return distance <= unlikely ? between(even, unlikely, 50) : 10;
}
