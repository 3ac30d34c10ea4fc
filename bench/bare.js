/** The least a Worker can do between client and instance: the row that the router is compared with. */
// oxlint-disable-next-line import/no-default-export -- workerd takes a Worker's handlers from there
export default {
  fetch(request, env) {
    return fetch(env.UPSTREAM, request)
  },
}
